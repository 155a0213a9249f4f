"""Judge manifests of Skills without a cluster: the shape, the operator's own validation, and what admission refuses."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pydantic import ValidationError

from kubectl_skill.yaml_files import Document
from skill_operator import naming
from skill_operator.api import check_request
from skill_operator.api.v1alpha1 import DNS_LABEL, DNS_SUBDOMAIN, ObjectMeta, Skill
from skill_operator.api.validation import advice, read_spec
from skill_operator.generation.typed_dicts import types_module
from skill_operator.untrusted.json_values import brief
from skill_operator.untrusted.text import printable

PREFIX: Final = f"{naming.GROUP}/"
ANNOTATIONS_OF_PEOPLE: Final = frozenset(
    (
        naming.RETRY_ANNOTATION,
        naming.APPROVE_ANNOTATION,
        naming.APPROVED_BY_ANNOTATION,
        naming.REJECT_ANNOTATION,
        naming.REJECT_MESSAGE_ANNOTATION,
        naming.REJECTED_BY_ANNOTATION,
        naming.PROMOTED_BY_ANNOTATION,
        naming.RESTORE_ANNOTATION,
    )
)
"""The operator's annotations that admission lets people set."""
NOT_CHECKED: Final = (
    "the model endpoint and the runtime class",
    "whether the Secrets are there and granted",
    "egress to the cluster's own networks",
    "the rights of whoever applies it",
)
"""What only a cluster knows."""

_UNKNOWN = {"Extra inputs are not permitted": "is no field that a Skill has here", "Field required": "is missing"}
"""Words of pydantic, and what a person reads instead."""
_FIELDS = ("apiVersion", "kind", "metadata", "spec", "status")
_META_FIELDS = frozenset((
    "name", "generateName", "namespace", "labels", "annotations", "ownerReferences", "finalizers", "uid", "generation",
    "resourceVersion", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "managedFields",
    "selfLink",
))  # fmt: skip
_QUALIFIED = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)\Z")
_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?\Z")
_MAX_ANNOTATIONS_BYTES = 262_144


@dataclass(frozen=True)
class ManifestProblem:
    """ManifestProblem is one mistake of a manifest, its place, and the line of its file."""

    path: str
    message: str
    line: int
    severity: Literal["error", "warning"] = "error"


@dataclass
class CheckedManifest:
    """CheckedManifest is one document of a file and what is wrong with it; `skill` where its shape is that of one."""

    document: Document
    kind: str
    name: str
    namespace: str
    problems: list[ManifestProblem] = field(default_factory=list)
    skill: Skill | None = None

    @property
    def is_skill(self) -> bool:
        """Return whether the document means to be a Skill; others are not judged."""
        return self.kind == "Skill"

    @property
    def is_valid(self) -> bool:
        """Return whether nothing is wrong with it; warnings do not count."""
        return not any(problem.severity == "error" for problem in self.problems)


def check_manifests(documents: Iterable[Document]) -> list[CheckedManifest]:
    """Return each document with its problems, in order. A second Skill of the same name is a problem of its own."""
    checked: list[CheckedManifest] = []
    first: dict[tuple[str, str], CheckedManifest] = {}
    for document in documents:
        manifest = check_manifest(document)
        checked.append(manifest)
        if not manifest.is_skill or not manifest.name:
            continue
        earlier = first.setdefault((manifest.namespace, manifest.name), manifest)
        if earlier is not manifest:
            place = f"{printable(earlier.document.file, 256)}:{earlier.document.line}"
            manifest.problems.append(_problem(document, "metadata.name", f"{place} has a Skill of this name, too"))
    return checked


def check_manifest(document: Document) -> CheckedManifest:
    """Return one document with everything that is wrong with it, as far as that is known without a cluster."""
    value = document.value
    if not isinstance(value, dict):
        return _unreadable(document, f"a manifest is a mapping, not {brief(value, 40)}")
    kind, meta = value.get("kind"), value.get("metadata")
    if not isinstance(kind, str) or not kind:
        return _unreadable(document, "needs a kind, such as Skill")
    if kind == "List":
        return _unreadable(document, "is a List: put each object into a document of its own, after a line ---")
    meta = meta if isinstance(meta, dict) else {}
    checked = CheckedManifest(document, printable(kind, 63), _text(meta.get("name")), _text(meta.get("namespace")))
    group = _text(value.get("apiVersion")).partition("/")[0]
    if kind != "Skill" or (group and group != naming.GROUP):
        if kind == "Skill":
            checked.kind = f"Skill of {group}"
        return checked
    checked.problems += [_problem(document, *found) for found in (*_head(value), *_metadata(value.get("metadata")))]
    spec, found = read_spec(value.get("spec"))
    checked.problems += [_problem(document, path, _UNKNOWN.get(message, message)) for path, message in found]
    if spec is None:
        return checked
    checked.problems += [_problem(document, *problem, severity="warning") for problem in advice(spec)]
    if not spec.examples:
        message = "there are none: nothing says what is right, and nothing is held out from the model"
        checked.problems.append(_problem(document, "spec.examples", message, severity="warning"))
    try:
        checked.skill = Skill(metadata=ObjectMeta(name=checked.name, namespace=checked.namespace), spec=spec)
    except ValidationError:  # of a name that is no text, which is reported already
        return checked
    if checked.is_valid:
        checked.problems += [_problem(document, *problem) for problem in _size(checked.skill)]
    return checked


def _unreadable(document: Document, message: str) -> CheckedManifest:
    return CheckedManifest(document, "", "", "", [_problem(document, "", message)])


def _problem(
    document: Document, path: str, message: str, severity: Literal["error", "warning"] = "error"
) -> ManifestProblem:
    return ManifestProblem(path, message, document.line_of(path), severity)


def _text(value: Any) -> str:
    return printable(value, 253) if isinstance(value, str) else ""


def _head(value: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if value.get("apiVersion") != naming.API_VERSION:
        yield "apiVersion", f"must be {naming.API_VERSION}"
    for name in value:
        if name not in _FIELDS:
            yield printable(name, 64), f"is no field of a Skill; it has {', '.join(_FIELDS)}"


def _metadata(meta: Any) -> Iterator[tuple[str, str]]:
    """Yield what the API server, or the chart's admission policy, refuses in metadata."""
    if not isinstance(meta, dict):
        yield "metadata", "is missing: give the Skill a name"
        return
    for name in sorted(meta.keys() - _META_FIELDS):
        yield f"metadata.{printable(name, 64)}", "is no field of metadata"
    name, namespace = meta.get("name"), meta.get("namespace")
    if not isinstance(name, str) or not re.fullmatch(DNS_SUBDOMAIN, name) or len(name) > 253:
        yield "metadata.name", "must be lower-case letters, digits, `-` and `.`, such as invoice-total"
    if namespace is not None and (
        not isinstance(namespace, str) or not re.fullmatch(DNS_LABEL, namespace) or len(namespace) > 63
    ):
        yield "metadata.namespace", "must be the name of a namespace: lower-case letters, digits and `-`"
    yield from _labels(meta.get("labels"))
    yield from _annotations(meta.get("annotations"))


def _labels(labels: Any) -> Iterator[tuple[str, str]]:
    for key, value in _pairs(labels):
        path = f'metadata.labels["{printable(key, 80)}"]'
        if key.startswith(PREFIX):
            yield path, f"labels of {naming.GROUP} are the operator's own; take it away"
        elif not _is_qualified(key):
            yield path, "is no key of a label"
        elif not isinstance(value, str) or len(value) > 63 or not _LABEL_VALUE.match(value):
            yield path, "must be text of at most 63 letters, digits, `-`, `_` and `.`"
    if labels is not None and not isinstance(labels, dict):
        yield "metadata.labels", "must be a mapping"


def _annotations(annotations: Any) -> Iterator[tuple[str, str]]:
    size = 0
    for key, value in _pairs(annotations):
        path = f'metadata.annotations["{printable(key, 80)}"]'
        if key.startswith(PREFIX) and key not in ANNOTATIONS_OF_PEOPLE:
            yield path, "is the operator's own annotation; take it away"
        elif not _is_qualified(key):
            yield path, "is no key of an annotation"
        elif not isinstance(value, str):
            yield path, "must be text: write it in quotes"
        size += len(key) + (len(value.encode("utf-8", "replace")) if isinstance(value, str) else 0)
    if size > _MAX_ANNOTATIONS_BYTES:
        yield "metadata.annotations", f"are larger than {_MAX_ANNOTATIONS_BYTES // 1024} KiB together"
    if annotations is not None and not isinstance(annotations, dict):
        yield "metadata.annotations", "must be a mapping"


def _pairs(value: Any) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, dict) else []


def _is_qualified(key: str) -> bool:
    prefix, slash, name = key.rpartition("/")
    is_prefix = not slash or (len(prefix) <= 253 and re.fullmatch(DNS_SUBDOMAIN, prefix) is not None)
    return is_prefix and len(name) <= 63 and _QUALIFIED.match(name) is not None


def _size(skill: Skill) -> Iterator[tuple[str, str]]:
    """Yield what a check Job cannot carry: the operator would stop there."""
    spec = skill.spec
    source = spec.source.inline if spec.source is not None else ""
    content = check_request.make_content(spec, source, types_module(spec.input, spec.output), spec.examples, [])
    try:
        check_request.pack(content)
    except check_request.TooLarge as error:
        yield "spec", str(error)
