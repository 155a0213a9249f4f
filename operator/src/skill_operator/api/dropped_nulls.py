"""Find the nulls of a manifest that client-side `kubectl apply` took for keys to delete (RFC 7396).

The manifest is in the annotation that kubectl leaves. Server-side apply, which leaves none, keeps each null.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from skill_operator.untrusted.json_values import located, parse_json

LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
MAX_MANIFEST_CHARACTERS: Final = 262_144
"""The API server takes no longer annotations."""
MAX_NODES: Final = 32_768
"""A manifest of more values is not compared: some milliseconds."""
MAX_FOUND: Final = 10
_ABSENT: Final = object()


def find_dropped_nulls(body: dict[str, Any]) -> list[str]:
    """Return the places in `spec` where the applied manifest has a null and the object has nothing, at most ten."""
    text = body.get("metadata", {}).get("annotations", {}).get(LAST_APPLIED)
    if not isinstance(text, str) or len(text) > MAX_MANIFEST_CHARACTERS:
        return []
    if sum(map(text.count, ",[{")) >= MAX_NODES or "null" not in text:
        return []
    try:
        manifest = parse_json(text)
    except (ValueError, RecursionError):
        return []
    applied = manifest.get("spec") if isinstance(manifest, dict) else None
    return list(islice(_lost(applied, body.get("spec")), MAX_FOUND))


def _lost(applied: Any, live: Any) -> Iterator[str]:
    """Yield the places, in the order of the manifest. Without recursion: a manifest may be deep."""
    waiting: list[tuple[tuple[str | int, ...], Any, Any]] = [((), applied, live)]
    while waiting:
        place, wanted, found = waiting.pop()
        if wanted is None and found is _ABSENT:
            yield located("spec", place)
        elif isinstance(wanted, dict) and isinstance(found, dict):
            waiting += [((*place, key), wanted[key], found.get(key, _ABSENT)) for key in reversed(wanted)]
        elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
            waiting += [((*place, n), wanted[n], found[n]) for n in reversed(range(len(wanted)))]
