"""Decode what the API server sends, whatever strangers stored: one object that is too much costs no other anything.

The API server takes objects of 1.5 MB and of ten thousand levels. To parse one of these takes tens of megabytes or
ends in RecursionError, so it is cut to a skeleton first: what lies deeper than its metadata becomes null.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any, Final

from skill_operator.k8s.interface import UNREADABLE, Object

MAX_DOCUMENT_BYTES: Final = 2 << 20
"""A longer document is not parsed whole; the longest object that etcd stores is shorter."""
MAX_NODES: Final = 32_768
"""A document of more values than this is not parsed whole: some milliseconds, and a megabyte or two."""
MAX_SAFE_LEVELS: Final = 500
"""Any parser of any Python takes so many levels."""
OBJECT_LEVELS: Final = 4
"""The levels of an object that its skeleton keeps: it, its metadata, their owner references, and one of these."""
LIST_LEVELS: Final = 2
"""The levels of a list outside its objects."""
TOO_MUCH: Final = "the object is nested too deeply or has too many values to be read; make its spec smaller"

METADATA: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
"""The media type of an object, or a watch of objects, without all but their metadata."""
METADATA_LIST: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

_METADATA_KEY: Final = b'"metadata"'
_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[\]{}]', re.DOTALL)


def is_small(raw: bytes) -> bool:
    """Return whether a document can be parsed whole; each value but the first follows a comma or an opening bracket."""
    return len(raw) <= MAX_DOCUMENT_BYTES and raw.count(b",") + raw.count(b"[") + raw.count(b"{") < MAX_NODES


def cut(raw: bytes, levels: int) -> bytes:
    """Return the JSON text with null for every list and object that lies deeper than `levels`.

    It is linear, needs no stack, and lets other threads run, as the parser does not.
    """
    kept, depth, start = [], 0, 0
    for token in _TOKEN.finditer(raw):
        match raw[token.start()]:
            case 0x5B | 0x7B:  # [ {
                depth += 1
                if depth == levels + 1:
                    kept += [raw[start : token.start()], b"null"]
            case 0x5D | 0x7D:  # ] }
                depth -= 1
                if depth == levels:
                    start = token.end()
            case _:
                pass
    return b"".join(kept) + (raw[start:] if depth <= levels else b"")


def metadata_alone(raw: bytes, outer_levels: int = 0) -> bytes:
    """Return the skeleton of an object in `outer_levels` objects, without what follows its metadata.

    The API server writes the metadata of an object before its spec, so the spec costs nothing here, whatever is in it.
    """
    depth, started = 0, False
    for token in _TOKEN.finditer(raw):
        match raw[token.start()]:
            case 0x5B | 0x7B:
                depth += 1
            case 0x5D | 0x7D:
                depth -= 1
                if started and depth == outer_levels + 1:
                    return cut(raw[: token.end()], outer_levels + OBJECT_LEVELS) + b"}" * depth
            case _ if depth == outer_levels + 1 and token.group() == _METADATA_KEY:
                started = raw[token.end() : token.end() + 2] == b":{"
            case _:
                pass
    return cut(raw, outer_levels + OBJECT_LEVELS)


def parse_whole(raw: bytes) -> Any:
    """Return the value of a document, or None for one that is too much. Raises ValueError for what is no JSON."""
    if not is_small(raw):
        return None
    try:
        return json.loads(raw)
    except RecursionError:
        return None


async def small_object(raw: bytes, outer_levels: int = 0) -> bytes:
    """Return the JSON text itself, where whoever parses it is safe, else the text of its skeleton."""
    if len(raw) <= MAX_DOCUMENT_BYTES and raw.count(b"[") + raw.count(b"{") <= MAX_SAFE_LEVELS:
        return raw
    return await asyncio.to_thread(metadata_alone, raw, outer_levels)


async def parse_object(raw: bytes, outer_levels: int = 0) -> tuple[Any, bool]:
    """Return the value of an object in `outer_levels` objects, and whether it is whole.

    Raises ValueError for what is no JSON.
    """
    if (value := parse_whole(raw)) is not None:
        return value, True
    return json.loads(await asyncio.to_thread(metadata_alone, raw, outer_levels)), False


async def parse_list(raw: bytes) -> Any:
    """Return the value of a list, whose objects are skeletons where it is too much. Raises ValueError for no JSON."""
    if (value := parse_whole(raw)) is None:
        value = json.loads(await asyncio.to_thread(cut, raw, LIST_LEVELS + OBJECT_LEVELS))
    if isinstance(value, dict) and value.get("items", ()) is None:  # how an empty list of metadata comes
        value["items"] = []
    return value


def mark(obj: Object) -> Object:
    """Return the skeleton of an object with the reason why it is no more than that."""
    return obj | {UNREADABLE: TOO_MUCH}
