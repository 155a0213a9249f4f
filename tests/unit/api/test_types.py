"""Defaults, names on the wire, and bounds of the types."""

import pytest
from pydantic import ValidationError

from skill_operator.api.v1alpha1 import Skill, SkillSpec

SMALLEST = {"description": "x", "input": {"type": "object"}, "output": {"type": "object"}}


def spec(**fields):
    return SkillSpec.model_validate(SMALLEST | fields)


def test_defaults():
    assert spec().model_dump(by_alias=True) == SMALLEST | {
        "examples": [],
        "deterministic": True,
        "source": None,
        "revision": "",
        "generation": {"model": "", "maxAttempts": 3, "tokenBudget": 20000, "secondOpinion": "Auto"},
        "review": "Automatic",
        "egress": [],
        "secrets": [],
        "resources": {
            "requests": {"cpu": "50m", "memory": "64Mi"},
            "limits": {"cpu": "500m", "memory": "256Mi", "ephemeral-storage": "64Mi"},
        },
        "runtimeClassName": "",
        "callTimeoutSeconds": 30,
        "summary": "",
        "callLimits": {"perMinute": 0, "concurrent": 0},
        "idleTimeoutSeconds": 900,
        "archiveAfterSeconds": 0,
        "suspend": False,
        "revisionHistoryLimit": 3,
    }


def test_the_other_limits_stay_when_one_is_given():
    made = spec(resources={"limits": {"memory": "1Gi"}}).resources
    assert made.limits.quantities() == {"cpu": "500m", "memory": "1Gi", "ephemeral-storage": "64Mi"}
    assert made.requests.quantities() == {"cpu": "50m", "memory": "64Mi"}


def test_a_quantity_may_be_written_as_a_number():
    assert spec(resources={"limits": {"cpu": 2}}).resources.limits.cpu == "2"
    assert spec(resources={"limits": {"cpu": 0.5}}).resources.limits.cpu == "500m"


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ({"limits": {"cpu": "10m"}}, "requests.cpu is more than limits.cpu"),
        ({"requests": {"memory": "0.3Gi"}}, "requests.memory is more than limits.memory"),
        *(({"limits": {name: 0}}, f"limits.{name} must be more than 0") for name in ("cpu", "memory")),
        ({"limits": {"ephemeral-storage": "0Mi"}}, "limits.ephemeral-storage must be more than 0"),
    ],
)
def test_resources_that_no_pod_could_have_are_refused(resources, message):
    with pytest.raises(ValidationError, match=message):
        spec(resources=resources)


def test_a_null_output_is_an_output():
    null, none = spec(
        examples=[{"name": "a", "input": {}, "output": None}, {"name": "b", "input": {}, "error": "ValueError"}]
    ).examples
    assert null.has_output
    assert not none.has_output


def test_an_object_of_a_newer_api_is_read():
    skill = Skill.model_validate({
        "apiVersion": "skill-operator.dev/v1alpha1",
        "kind": "Skill",
        "metadata": {
            "name": "a", "namespace": "b", "uid": "u", "generation": 4, "resourceVersion": "7", "managedFields": [{}],
            "deletionTimestamp": "2026-03-01T12:00:00Z",
        },
        "spec": SMALLEST | {"newer": {"field": 1}},
        "status": {"observedGeneration": 3, "newer": True, "conditions": [
            {"type": "Ready", "status": "True", "reason": "R", "lastTransitionTime": "2026-03-01T12:00:00Z", "newer": 1}
        ]},
    })  # fmt: skip
    assert (skill.metadata.generation, skill.metadata.resource_version) == (4, "7")
    assert skill.metadata.deletion_timestamp is not None
    assert skill.status.conditions[0].message == ""


def test_objects_are_frozen():
    skill = Skill.model_validate({"metadata": {"name": "a"}, "spec": SMALLEST})
    with pytest.raises(ValidationError):
        skill.spec.suspend = True


def example(**fields):
    return {"examples": [{"name": "a", "input": {}, "output": {}} | fields]}


def secret(name="a", source="s", key="k"):
    return {"secrets": [{"name": name, "secretKeyRef": {"name": source, "key": key}}]}


@pytest.mark.parametrize(
    "fields",
    [
        {"description": "x" * 16384},
        {"source": {"inline": "x" * 65536}},
        {"callTimeoutSeconds": 3600},
        {"idleTimeoutSeconds": 0},
        {"archiveAfterSeconds": 0},
        {"archiveAfterSeconds": 315_360_000},
        {"generation": {"maxAttempts": 1, "tokenBudget": 1000}},
        {"generation": {"maxAttempts": 5}},
        {"revisionHistoryLimit": 10},
        {"review": "Manual"},
        {"egress": [{"cidr": "::/0", "ports": [1, 65535]}]},
        example(name="a" * 63, error="json_Error2"),
        secret(key=".dockerconfigjson", source="a.b-c.d"),
        {"resources": {"requests": {"memory": "1.5Gi", "cpu": ".5"}, "limits": {"memory": "2e9"}}},
    ],
)
def test_good(fields):
    spec(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"description": ""},
        {"description": "x" * 16385},
        {"input": True},
        {"input": []},
        {"output": {f"x-{index}": 1 for index in range(257)}},
        {"examples": [{"name": f"a{index}", "input": {}, "output": {}} for index in range(65)]},
        {"examples": [{"name": "a", "output": {}}]},
        *(example(name=name) for name in ("", "A", "a_b", "-a", "a-", "a.b", "a\n", "a" * 64)),
        *(example(error=name) for name in ("", "a.b", "1a", "Value Error", "ValueError\n", "é", "a" * 129)),
        {"source": {}},
        {"source": {"inline": ""}},
        {"source": {"inline": "x" * 65537}},
        {"generation": {"maxAttempts": 0}},
        {"generation": {"maxAttempts": 6}},
        {"generation": {"tokenBudget": 999}},
        {"generation": {"model": "x" * 254}},
        {"review": "manual"},
        {"egress": [{"cidr": "10.0.0.0/8"}]},
        {"egress": [{"cidr": "10.0.0.0/8", "ports": []}]},
        {"egress": [{"cidr": "10.0.0.0/8", "ports": [0]}]},
        {"egress": [{"cidr": "10.0.0.0/8", "ports": [65536]}]},
        {"egress": [{"cidr": "10.0.0.0/8", "ports": list(range(1, 18))}]},
        secret(name="a/b"),
        secret(name=".."),
        secret(source="a..b"),
        secret(key="a/b"),
        secret(key=""),
        *(
            {"resources": {"limits": {"cpu": quantity}}}
            for quantity in (
                "",
                "-1",
                "1e",
                "1 ",
                "1g",
                "m",
                "1ei",
                "0x1",
                True,
                None,
                "9" * 21,
                "1\n",
                "1e999",
                ".",
            )
        ),
        {"callTimeoutSeconds": 0},
        {"callTimeoutSeconds": 3601},
        {"idleTimeoutSeconds": -1},
        {"archiveAfterSeconds": -1},
        {"archiveAfterSeconds": 315_360_001},
        {"archiveAfterSeconds": 1.5},
        {"archiveAfterSeconds": None},
        {"revisionHistoryLimit": 11},
        {"revisionHistoryLimit": -1},
    ],
)
def test_bad(fields):
    with pytest.raises(ValidationError):
        spec(**fields)
