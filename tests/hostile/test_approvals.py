"""Nobody approves without the right to, or in somebody else's name; and nobody gets around being asked."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from hack.install import NAMESPACE
from tests.hostile.test_admission import Answer, Impersonator, Resource
from tests.integration.installed import Operator, until
from tests.integration.test_skill import skill

pytestmark = pytest.mark.cluster
SKILLS = Resource("/apis/skill-operator.dev/v1alpha1", "skills", "Skill", {})
NO_RIGHT = (
    "needs the verb update on skills/approval of skill-operator.dev, which the ClusterRole skill-operator-approver"
)
TOKEN, OTHER = "a" * 64, "b" * 64
DECISIONS: tuple[dict[str, str], ...] = (
    {"approve": TOKEN, "approved-by": "edith"},
    {"approve": TOKEN},
    {"approved-by": "edith"},
    {"reject": TOKEN, "rejected-by": "edith", "reject-message": "no"},
    {"reject": TOKEN},
    {"rejected-by": "edith"},
    {"reject-message": "no"},
    {"promoted-by": "edith"},
)


@dataclass(frozen=True)
class People:
    """People of one namespace: edith may edit its Skills, ada may approve them, and eve may do so elsewhere."""

    operator: Operator
    namespace: str
    elsewhere: str

    def __getattr__(self, name: str) -> Impersonator:
        if name not in {"edith", "ada", "eve"}:
            raise AttributeError(name)
        return Impersonator(self.operator.objects.api_client, name)


def bind(operator: Operator, namespace: str, user: str, role: str) -> None:
    meta = {"name": f"{user}-{role}", "namespace": namespace}
    group = "rbac.authorization.k8s.io"
    subject = {"apiGroup": group, "kind": "User", "name": user}
    reference = {"apiGroup": group, "kind": "ClusterRole", "name": role}
    operator.cluster.apply(
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": meta,
            "roleRef": reference,
            "subjects": [subject],
        }
    )


@pytest.fixture(scope="module")
def people(operator: Operator) -> Iterator[People]:
    with operator.cluster.namespace("approvals") as namespace, operator.cluster.namespace("elsewhere") as elsewhere:
        for user in ("edith", "ada", "eve"):
            bind(operator, namespace, user, "edit")
        bind(operator, namespace, "ada", "skill-operator-approver")
        bind(operator, elsewhere, "eve", "skill-operator-approver")
        found = People(operator, namespace, elsewhere)

        def refused() -> bool:
            return NO_RIGHT in create(found.edith, found, manifest("probe", {"approve": TOKEN}))[1]

        until("the policy is active, and the roles are bound", 30, refused)
        yield found


def manifest(name: str, decisions: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """A Skill of which the operator does nothing."""
    body = skill(name, **({"review": "Manual", "suspend": True} | spec))
    if decisions:
        body["metadata"]["annotations"] = names(decisions)
    return body


def names(decisions: dict[str, str]) -> dict[str, str]:
    return {f"skill-operator.dev/{name}": value for name, value in decisions.items()}


def create(who: Impersonator, people: People, body: dict[str, Any], *, store: bool = False) -> Answer:
    return who.request("POST", SKILLS.path(people.namespace), body, store=store)


def stored(people: People, name: str, decisions: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """A Skill that is there; ada makes it where it bears a decision of hers."""
    status, text = create(
        people.ada if decisions else people.edith, people, manifest(name, decisions, **spec), store=True
    )
    assert status == 201, text
    found: dict[str, Any] = json.loads(text)
    return found


def updates(who: Impersonator, live: dict[str, Any], change: dict[str, Any]) -> Iterator[tuple[str, Answer]]:
    """Each way to change a Skill's metadata; the API server knows no strategic merge of custom resources."""
    for how, answer in who.updates(SKILLS, live, change):
        if how == "PUT":
            yield how, replace(who, live, change)
        elif how != "strategic-merge-patch":
            yield how, answer
        else:
            assert answer[0] == 415, answer


def replace(
    who: Impersonator, live: dict[str, Any], change: dict[str, Any], spec: dict[str, Any] | None = None
) -> Answer:
    """Replace a custom resource, which its present version alone does: the operator may just have written its status."""
    path = SKILLS.path(live["metadata"]["namespace"], live["metadata"]["name"])
    for _ in range(20):
        present = json.loads(who.request("GET", path, None)[1])
        meta = present["metadata"]
        body = present | {"metadata": meta | {key: meta.get(key, {}) | value for key, value in change.items()}}
        body |= {"spec": spec or present["spec"]}
        answer = who.request("PUT", path, body)
        if answer[0] != 409:
            break
    return answer


def patch(who: Impersonator, live: dict[str, Any], change: dict[str, Any], *, store: bool = False) -> Answer:
    path = SKILLS.path(live["metadata"]["namespace"], live["metadata"]["name"])
    return who.request("PATCH", path, change, "application/merge-patch+json", store=store)


def annotate(who: Impersonator, live: dict[str, Any], decisions: dict[str, Any], *, store: bool = False) -> Answer:
    return patch(who, live, {"metadata": {"annotations": names(decisions)}}, store=store)


@pytest.mark.parametrize("decisions", DECISIONS, ids="+".join)
def test_who_may_edit_may_not_decide(people: People, decisions: dict[str, str]) -> None:
    live = stored(people, f"edited-{'-'.join(decisions)}")
    for how, answer in updates(people.edith, live, {"annotations": names(decisions)}):
        if how == "status":  # the API server heeds no metadata there
            assert answer[0] in {200, 403}, answer
            assert not names(decisions).keys() & json.loads(answer[1])["metadata"].get("annotations", {}).keys()
        else:
            assert answer[0] == 403, (how, answer)
            assert NO_RIGHT in answer[1], (how, answer)
            assert "edith may not set" in json.loads(answer[1])["message"]
    answer = create(people.edith, people, manifest("made", decisions))
    assert answer[0] == 403, answer
    assert NO_RIGHT in answer[1]


def test_the_right_is_one_of_a_namespace(people: People) -> None:
    live = stored(people, "elsewhere")
    assert NO_RIGHT in annotate(people.eve, live, {"approve": TOKEN, "approved-by": "eve"})[1]


def test_who_may_approve_does_so_in_their_own_name(people: People) -> None:
    live = stored(people, "named")
    for how, answer in updates(people.ada, live, {"annotations": names({"approve": TOKEN, "approved-by": "ada"})}):
        assert answer[0] == 200 or how == "status", (how, answer)
    for by in ("edith", "", "ADA", "ada ", "system:admin"):
        status, text = annotate(people.ada, live, {"approve": TOKEN, "approved-by": by})
        assert status == 403, (by, text)
        assert "skill-operator.dev/approved-by must be ada, who asks" in json.loads(text)["message"]
    status, text = annotate(people.ada, live, {"approve": TOKEN})
    assert status == 403
    assert (
        f"kubectl annotate skill -n {people.namespace} named --overwrite skill-operator.dev/approve={TOKEN} "
        "'skill-operator.dev/approved-by=ada'"
    ) in json.loads(text)["message"]
    assert annotate(people.ada, live, {"reject": TOKEN, "rejected-by": "edith"})[0] == 403
    assert annotate(people.ada, live, {"reject": TOKEN})[0] == 403
    assert annotate(people.ada, live, {"reject": TOKEN, "rejected-by": "ada", "reject-message": "no"})[0] == 200
    assert annotate(people.ada, live, {"promoted-by": "edith"})[0] == 403
    assert annotate(people.ada, live, {"promoted-by": "ada"})[0] == 200


def test_an_impersonator_shows_as_who_they_pose_as(people: People) -> None:
    """Whoever may impersonate is known by the API server's audit log; the Skill says who was posed as."""
    live = stored(people, "posed")
    annotations = [f"skill-operator.dev/{key}={value}" for key, value in (("approve", TOKEN), ("approved-by", "ada"))]
    annotate_command = ("-n", people.namespace, "annotate", "skill", "posed", "--dry-run=server", *annotations)
    assert live
    people.operator.cluster.kubectl("--as=ada", *annotate_command)
    with pytest.raises(Exception, match="approved-by must be"):
        people.operator.cluster.kubectl(*annotate_command)


def test_what_was_decided_stays_decided_by_who_did(people: People) -> None:
    live = stored(people, "decided", {"approve": TOKEN, "approved-by": "ada"})
    honest = {"annotations": {"example.com/note": "x"}, "labels": {"example.com/team": "b"}}
    for how, answer in updates(people.edith, live, honest):
        if how != "apply":  # that leaves out the spec, which is another manager's
            assert answer[0] == 200 or how == "status", (how, answer)
    assert patch(people.edith, live, {"spec": {"idleTimeoutSeconds": 7}})[0] == 200
    for change in ({"approve": OTHER}, {"approved-by": "edith"}, {"approved-by": None}, {"approve": ""}):
        answer = annotate(people.edith, live, change)
        assert answer[0] == 403, (change, answer)
    assert annotate(people.ada, live, {"approved-by": None})[0] == 403, "an approval of nobody"
    assert annotate(people.edith, live, {"approve": None})[0] == 200
    assert annotate(people.edith, live, {"approve": None, "approved-by": None})[0] == 200
    assert annotate(people.edith, live, {"approve": None, "approved-by": None}, store=True)[0] == 200
    assert annotate(people.edith, live, {"approve": TOKEN, "approved-by": "ada"})[0] == 403, "nor is it put back"


def test_a_rejection_is_taken_back_whole_or_not_at_all(people: People) -> None:
    rejected = {"reject": TOKEN, "rejected-by": "ada", "reject-message": "no"}
    live = stored(people, "rejected", rejected)
    for change in ({"rejected-by": None}, {"reject-message": None}, {"reject-message": "yes"}):
        assert annotate(people.edith, live, change)[0] == 403, change
    assert annotate(people.edith, live, dict.fromkeys(rejected))[0] == 200
    assert annotate(people.edith, live, {"reject": None})[0] == 200


def test_nobody_approves_and_rejects_the_same(people: People) -> None:
    live = stored(people, "both", {"approve": TOKEN, "approved-by": "ada"})
    contrary = {"reject": TOKEN, "rejected-by": "ada", "reject-message": "on second thoughts"}
    status, text = annotate(people.ada, live, contrary)
    assert (status, "both approved and rejected" in text) == (422, True), text
    assert annotate(people.ada, live, contrary | {"approve": None, "approved-by": None})[0] == 200
    assert annotate(people.ada, live, contrary | {"reject": OTHER})[0] == 200, "of another revision"


def test_words_are_bounded(people: People) -> None:
    live = stored(people, "wordy")
    for size, status in ((1024, 200), (1025, 422)):
        words = {"reject": TOKEN, "rejected-by": "ada", "reject-message": "é" * size}
        assert annotate(people.ada, live, words)[0] == status


@pytest.mark.parametrize(("had", "has"), list(itertools.combinations(("Manual", "WhenInDoubt", "Automatic"), 2)))
def test_a_review_is_not_lowered_without_the_right(people: People, had: str, has: str) -> None:
    name = f"lowered-{had}-{has}".lower()
    live = stored(people, name, review=had)
    lowered = {"spec": {"review": has}}
    path = SKILLS.path(people.namespace, name)
    spec = {key: value for key, value in live["spec"].items() if key != "review"}
    steps = [{"op": "remove", "path": "/spec/review"}]
    patches: dict[str, Any] = {
        "merge-patch+json": lowered,
        "json-patch+json": steps,
        "apply-patch+yaml": manifest(name, review=has),
    }

    def answers(who: Impersonator) -> Iterator[Answer]:
        yield replace(who, live, {}, spec)
        for media, body in patches.items():
            yield who.request("PATCH", path, body, f"application/{media}")

    for (status, text), allowed in zip(answers(people.edith), answers(people.ada), strict=True):
        assert status == 403, text
        assert f"set spec.review: {had}. The Skill has it" in json.loads(text)["message"]
        assert allowed[0] == 200, allowed


def test_a_namespace_that_asks_for_reviews_has_no_skill_without(people: People) -> None:
    """Deleting a Skill and making it anew is no way around it."""
    old = stored(people, "old", review="Automatic")
    label = ("label", "--overwrite", "namespace", people.namespace)
    people.operator.cluster.kubectl(*label, "skill-operator.dev/review=Manual")
    try:
        until(
            "the label is known",
            30,
            lambda: create(people.edith, people, manifest("new", review="Automatic"))[0] == 403,
        )
        for review in ("Automatic", None):
            status, text = create(people.edith, people, manifest("new", review=review))
            assert status == 403, text
            assert "asks for it by its label skill-operator.dev/review" in json.loads(text)["message"]
        assert create(people.edith, people, manifest("new"))[0] == 201
        assert create(people.ada, people, manifest("new", review="Automatic"))[0] == 201
        assert patch(people.edith, old, {"spec": {"description": "Other words."}})[0] == 403
        assert annotate(people.edith, old, {"retry": "1"})[0] == 403
        assert patch(people.edith, old, {"spec": {"description": "Other words.", "review": "Manual"}})[0] == 200
        assert patch(people.edith, old, {"metadata": {"labels": {"example.com/team": "b"}}})[0] == 200
        people.operator.cluster.kubectl(*label, "skill-operator.dev/review=WhenInDoubt")
        until(
            "the other label is known",
            30,
            lambda: create(people.edith, people, manifest("doubted", review="WhenInDoubt"))[0] == 201,
        )
        status, text = create(people.edith, people, manifest("never", review="Automatic"))
        assert status == 403, text
        assert "set spec.review: WhenInDoubt. Namespace" in json.loads(text)["message"]
        people.operator.cluster.kubectl(
            "-n", people.namespace, "delete", "skill", "old", "--cascade=foreground", "--timeout=30s"
        )
    finally:
        people.operator.cluster.kubectl("label", "namespace", people.namespace, "skill-operator.dev/review-")


def test_no_account_approves_unless_somebody_says_so(people: People) -> None:
    def may(*who: str) -> str:
        question = ("auth", "can-i", "update", "skills.skill-operator.dev", "--subresource=approval")
        return people.operator.cluster.kubectl(*question, "-n", people.namespace, *who, check=False).strip()

    bind(people.operator, people.namespace, "root", "admin")
    for account in ("controller", "gateway", "registry", "prober"):
        assert may(f"--as=system:serviceaccount:{NAMESPACE}:{NAMESPACE}-{account}") == "no", account
    for user in ("edith", "eve", "root"):
        assert may(f"--as={user}") == "no", user
    assert may("--as=ada") == "yes"
    assert may() == "yes", "cluster-admin has all"
