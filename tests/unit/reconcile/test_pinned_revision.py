"""What a pinned revision may do: never more than its own spec and the present one both give."""

from __future__ import annotations

from typing import Any

import pytest

from skill_operator.api.v1alpha1 import Revision, Skill
from skill_operator.reconcile.pinned_revision import UnknownRevision, find_pinned, narrow_spec
from skill_operator.resources import kept_revision
from tests.unit.reconcile.samples import DIGEST, NOW, SOURCE, observed, skill

OLD = "0123456789" + "a" * 54
NEW = "9876543210" + "b" * 54
IMAGE = f"localhost:30500/skills/team/echo@{DIGEST}"


def keep(rev: str = OLD, source: str = SOURCE, **spec: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The ConfigMap of a revision that ran by this spec, and its entry of the history."""
    kept = kept_revision.config_map(skill(**spec), rev, source)
    assert kept is not None
    entry = Revision(
        revision=rev[:10],
        revision_digest=rev,
        image=IMAGE,
        time=NOW,
        content_digest=kept_revision.content_digest(kept),
    )
    return kept, entry.model_dump(mode="json", by_alias=True, exclude_none=True)


def pinning(revision: str, *entries: dict[str, Any], **spec: Any) -> Skill:
    return skill({"history": list(entries)}, revision=revision, **spec)


def maps(*kept: dict[str, Any]) -> dict[str, Any]:
    return {each["metadata"]["name"]: each for each in kept}


def test_what_is_kept_is_the_code_and_the_spec() -> None:
    kept, _ = keep(description="Once upon a time.", egress=[{"host": "api.example.com", "ports": [443]}])
    assert kept["metadata"]["labels"]["app.kubernetes.io/component"] == "revision"
    assert kept["metadata"]["labels"]["skill-operator.dev/revision"] == "0123456789"
    assert kept["metadata"]["ownerReferences"][0]["uid"] == "u-1"
    assert kept["data"]["skill.py"] == SOURCE
    assert '"Once upon a time."' in kept["data"]["spec.json"]
    assert SOURCE not in kept["data"]["spec.json"]


def test_a_revision_is_found_by_its_label_and_by_its_digest() -> None:
    kept, entry = keep(description="Once.")
    for name in (OLD[:10], OLD[:20], OLD):
        pinned = find_pinned(pinning(name, entry), maps(kept))
        assert pinned is not None
        assert (pinned.source, pinned.spec.description) == (SOURCE, "Once.")
    assert find_pinned(skill({"history": [entry]}), maps(kept)) is None


@pytest.mark.parametrize("null", [{"name": "n", "input": {"what": "x"}, "output": None}])
def test_an_example_stays_what_it_was(null: dict[str, Any]) -> None:
    error = {"name": "e", "input": {"what": "y"}, "error": "ValueError"}
    kept, entry = keep(examples=[null, error])
    pinned = find_pinned(pinning(OLD, entry), maps(kept))
    assert pinned is not None
    assert [(one.has_output, one.error) for one in pinned.spec.examples] == [(True, None), (False, "ValueError")]


def test_an_unknown_revision_names_those_that_exist() -> None:
    kept, entry = keep()
    _, newer = keep(NEW)
    with pytest.raises(UnknownRevision, match=r"0123456789 \(2030-01-01T12:00Z\), 9876543210"):
        find_pinned(pinning("abcdefabcd", entry, newer), maps(kept))
    with pytest.raises(UnknownRevision, match=r"Remove spec\.revision"):
        find_pinned(pinning("abcdefabcd"), {})


def test_a_label_of_two_revisions_is_none() -> None:
    (kept, entry), (other, twin) = keep(), keep(OLD[:10] + "c" * 54)
    with pytest.raises(UnknownRevision, match="more than one"):
        find_pinned(pinning(OLD[:10], entry, twin), maps(kept, other))
    assert find_pinned(pinning(OLD, entry, twin), maps(kept, other)) is not None


@pytest.mark.parametrize("data", [{"skill.py": "import os"}, {"spec.json": "{}"}, {"skill.py": None}])
def test_what_somebody_changed_does_not_count(data: dict[str, Any]) -> None:
    kept, entry = keep()
    kept["data"] |= data
    with pytest.raises(UnknownRevision, match="gone or changed"):
        find_pinned(pinning(OLD, entry), maps(kept))


def test_what_nobody_recorded_does_not_count() -> None:
    kept, entry = keep()
    for broken in ({}, maps(kept | {"data": {}})):
        with pytest.raises(UnknownRevision, match="gone or changed"):
            find_pinned(pinning(OLD, entry), broken)
    with pytest.raises(UnknownRevision, match="gone or changed"):
        find_pinned(pinning(OLD, entry | {"contentDigest": ""}), maps(kept))


def test_a_spec_too_large_to_keep_loses_its_examples_first() -> None:
    long = [{"name": f"n{n}", "input": {"what": "x" * 30_000}, "output": {"said": str(n)}} for n in range(40)]
    kept, _ = keep(examples=long)
    assert len(kept["data"]["spec.json"]) < 10_000
    huge = {"type": "object", "description": "x" * 1_000_000}
    assert kept_revision.config_map(skill(input=huge), OLD, SOURCE) is None


def narrowed(field: str, accepted: Any, declared: Any) -> Any:
    return getattr(narrow_spec(skill(**{field: accepted}).spec, skill(**{field: declared}).spec), field)


def cidr(network: str, *ports: int) -> dict[str, Any]:
    return {"cidr": network, "ports": list(ports)}


def host(name: str, *ports: int) -> dict[str, Any]:
    return {"host": name, "ports": list(ports)}


@pytest.mark.parametrize(
    ("accepted", "declared", "common"),
    [
        ([cidr("203.0.113.0/24", 443)], [], []),
        ([], [cidr("203.0.113.0/24", 443)], []),
        ([cidr("203.0.113.0/24", 443, 80)], [cidr("203.0.113.0/24", 443)], [("203.0.113.0/24", [443])]),
        ([cidr("203.0.113.0/24", 443)], [cidr("0.0.0.0/0", 443)], [("203.0.113.0/24", [443])]),
        ([cidr("0.0.0.0/0", 443)], [cidr("203.0.113.0/25", 443)], [("203.0.113.0/25", [443])]),
        ([cidr("203.0.113.0/25", 443)], [cidr("203.0.113.128/25", 443)], []),
        ([cidr("::/0", 443)], [cidr("0.0.0.0/0", 443)], []),
        ([cidr("0.0.0.0/0", 443)], [host("api.example.com", 443)], []),
        ([host("api.example.com", 443, 8443)], [host("api.example.com", 8443)], [("api.example.com", [8443])]),
        ([host("api.example.com", 443)], [host("www.example.com", 443)], []),
        (
            [cidr("203.0.113.0/24", 1, 2)],
            [cidr("0.0.0.0/0", 1), cidr("203.0.0.0/16", 2)],
            [("203.0.113.0/24", [1, 2])],
        ),
    ],
)
def test_egress_is_what_both_grant(accepted: Any, declared: Any, common: Any) -> None:
    assert [(way.to, way.ports) for way in narrowed("egress", accepted, declared)] == common


def secret(name: str, key: str = "token", **more: str) -> dict[str, Any]:
    return {"name": name, "secretKeyRef": {"name": "billing", "key": key}, **more}


@pytest.mark.parametrize(
    ("accepted", "declared", "common"),
    [
        ([secret("a"), secret("b")], [secret("b"), secret("c")], [("b", "Redacted")]),
        ([secret("a")], [secret("a", "other")], []),
        ([secret("a", disclosure="Allowed")], [secret("a")], [("a", "Redacted")]),
        ([secret("a")], [secret("a", disclosure="Allowed")], [("a", "Redacted")]),
        ([secret("a", disclosure="Allowed")], [secret("a", disclosure="Allowed")], [("a", "Allowed")]),
    ],
)
def test_secrets_are_those_that_both_grant(accepted: Any, declared: Any, common: Any) -> None:
    assert [(one.name, one.disclosure) for one in narrowed("secrets", accepted, declared)] == common


def test_limits_are_the_smaller_ones() -> None:
    accepted = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "1Gi"}}
    declared = {"requests": {"cpu": "50m", "memory": "2Gi"}, "limits": {"cpu": "4", "memory": "2Gi"}}
    found = narrowed("resources", accepted, declared)
    assert found.limits.quantities() == {"cpu": "2", "memory": "1Gi", "ephemeral-storage": "64Mi"}
    assert found.requests.quantities() == {"cpu": "50m", "memory": "1Gi"}
    assert narrowed("call_timeout_seconds", 5, 30) == narrowed("call_timeout_seconds", 30, 5) == 5


def test_requests_never_exceed_the_limits() -> None:
    accepted = {"requests": {"memory": "512Mi"}, "limits": {"memory": "512Mi"}}
    declared = {"requests": {"memory": "600Mi"}, "limits": {"memory": "1Gi"}}
    found = narrowed("resources", accepted, declared)
    assert (found.requests.memory, found.limits.memory) == ("512Mi", "512Mi")


def test_what_operates_a_skill_is_the_present_spec_s() -> None:
    spec = narrow_spec(
        skill(idleTimeoutSeconds=1, review="Automatic").spec,
        skill(idleTimeoutSeconds=7, review="Manual", runtimeClassName="kata", suspend=True).spec,
    )
    assert (spec.idle_timeout_seconds, spec.review, spec.runtime_class_name) == (7, "Manual", "kata")
    assert spec.suspend
    assert spec.source is None


def test_grants_that_are_withheld_are_named() -> None:
    kept, entry = keep(egress=[host("api.example.com", 443, 8443)], secrets=[secret("a")])
    pinned = find_pinned(pinning(OLD, entry, egress=[host("api.example.com", 443)]), maps(kept))
    assert pinned is not None
    assert pinned.withheld == ("egress to api.example.com on 8443", "secret a")


def test_what_was_observed_gets_the_narrowed_spec_and_asks_for_no_other_secret() -> None:
    kept, entry = keep(secrets=[secret("a")])
    both = [secret("a"), {"name": "b", "secretKeyRef": {"name": "payroll", "key": "k"}}]
    state = observed(pinning(OLD, entry, secrets=both), config_maps=maps(kept), ungranted=("payroll",))
    found = state.with_pinned_revision()
    assert [one.name for one in found.skill.spec.secrets] == ["a"]
    assert found.ungranted == ()
    missing = observed(pinning(NEW, entry)).with_pinned_revision()
    assert missing.pinned is None
    assert "no revision" in missing.unknown_revision
