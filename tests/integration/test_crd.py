"""The definition on a real API server: taken, cheap enough, clear in what it refuses, and read by the types.

What it refuses is refused before anything is stored, so the specs below are tried with a dry run.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, config

from hack.cluster.access import Cluster
from hack.cluster.identity import RELEASE
from hack.cluster.shell import ClusterError
from skill_operator.api.conditions import READY, set_condition
from skill_operator.api.crd import FILE_NAME
from skill_operator.api.v1alpha1 import ArchiveStatus, GenerationStatus, Skill, SkillSpec, SkillStatus
from skill_operator.naming import API_VERSION, GROUP, VERSION

pytestmark = pytest.mark.cluster

CHECKOUT = Path(__file__).parents[2]
DEFINITION = CHECKOUT / "crds" / FILE_NAME
EXAMPLES = CHECKOUT / "examples" / "skills"
SMALLEST = {"description": "x", "input": {"type": "object"}, "output": {"type": "object"}}
EXAMPLE = {"name": "a", "input": {}, "output": {}}
GRANT = {"name": "a", "secretKeyRef": {"name": "b", "key": "c"}}
EGRESS = {"cidr": "203.0.113.0/24", "ports": [443]}


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace in a cluster that has the definition; one that an installation brought stays."""
    definition = yaml.safe_load(DEFINITION.read_text(encoding="utf-8"))
    name = definition["metadata"]["name"]
    known = cluster.kubectl("get", "crd", name, "--ignore-not-found")
    as_helm = (
        "--server-side",
        "--force-conflicts",
        "--field-manager=helm",
    )  # else the next upgrade conflicts with this
    cluster.kubectl("apply", *as_helm, "-f", "-", stdin=json.dumps(definition))
    cluster.kubectl("wait", "--for=condition=Established", f"crd/{name}", "--timeout=30s")
    with cluster.namespace("crd") as made:
        yield made
    if not known:  # nor made anybody's meanwhile
        mine = ("--field-selector", f"metadata.name={name}", "-l", "app.kubernetes.io/managed-by!=Helm")
        cluster.kubectl("delete", "crd", *mine)


@contextmanager
def alone(cluster: Cluster) -> Iterator[None]:
    """Without the operator, where one is installed: it writes the status of every Skill."""
    controller = f"deployment/{RELEASE}-controller"
    here = ("-n", RELEASE)
    if not cluster.kubectl(*here, "get", controller, "--ignore-not-found", "-o", "name", check=False).strip():
        yield
        return
    cluster.kubectl(*here, "scale", controller, "--replicas=0")
    pods = ("pod", "-l", "app.kubernetes.io/component=controller")
    cluster.kubectl(*here, "wait", "--for=delete", *pods, "--timeout=60s")
    try:
        yield
    finally:
        cluster.kubectl(*here, "scale", controller, "--replicas=1")
        cluster.kubectl(*here, "rollout", "status", controller, "--timeout=120s")


def skill(namespace: str, name: str = "tried", **fields: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": API_VERSION, "kind": "Skill", "metadata": metadata, "spec": SMALLEST | fields}


def tried(cluster: Cluster, body: dict[str, Any], *how: str) -> dict[str, Any]:
    """What the API server would store. Raises ClusterError with what it says against it."""
    options = ("--dry-run=server", "-o", "json", *how)
    answer: dict[str, Any] = json.loads(cluster.kubectl("apply", *options, "-f", "-", stdin=json.dumps(body)))
    return answer


def test_defaults_are_filled_in(cluster: Cluster, namespace: str) -> None:
    stored = tried(cluster, skill(namespace, resources={"limits": {"cpu": 2}}, generation={"maxAttempts": 1}))["spec"]
    assert stored["resources"] == {
        "requests": {"cpu": "50m", "memory": "64Mi"},
        "limits": {"cpu": 2, "memory": "256Mi", "ephemeral-storage": "64Mi"},
    }
    assert stored["generation"] == {"model": "", "maxAttempts": 1, "tokenBudget": 20000, "secondOpinion": "Auto"}
    assert SkillSpec.model_validate(tried(cluster, skill(namespace))["spec"]) == SkillSpec.model_validate(SMALLEST)


def test_schemas_and_examples_are_kept_as_they_are(cluster: Cluster, namespace: str) -> None:
    """Nulls too, with server-side apply. Without it kubectl leaves out every null before it sends anything."""
    schema = {"type": "object", "properties": {"a": {"default": None, "x-anything": [1, None, {"b": "c"}]}}}
    examples = [
        {"name": "null", "input": {"a": None}, "output": None},
        {"name": "no-object", "input": None, "output": [1, None, {"b": 1.5}]},
    ]
    stored = tried(cluster, skill(namespace, input=schema, examples=examples), "--server-side")["spec"]
    assert (stored["input"], stored["examples"]) == (schema, examples)
    assert all(example.has_output for example in SkillSpec.model_validate(stored).examples)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"descripton": "x"}, 'unknown field "spec.descripton"'),
        ({"resources": {"limits": {"gpu": 1}}}, 'unknown field "spec.resources.limits.gpu"'),
        ({"description": None}, "spec.description: Required value"),
        ({"description": "x" * 16385}, "spec.description: Too long"),
        ({"input": True}, "spec.input"),
        ({"output": None}, "spec.output: Required value"),
        ({"source": {"inline": "x" * 65537}}, "spec.source.inline: Too long"),
        ({"examples": [{"name": "a", "input": {}}]}, "spec.examples[0].output: Required value"),
        ({"examples": [EXAMPLE | {"error": "ValueError"}]}, '"spec.examples[0]" must validate one and only one schema'),
        ({"examples": [{"name": "a", "input": {}, "error": "no name"}]}, "spec.examples[0].error"),
        ({"examples": [EXAMPLE, EXAMPLE]}, "spec.examples[1]: Duplicate value"),
        ({"examples": [EXAMPLE | {"name": f"e{n}"} for n in range(65)]}, "spec.examples: Too many: 65"),
        ({"examples": [EXAMPLE | {"name": "A"}]}, "spec.examples[0].name"),
        ({"secrets": [GRANT, GRANT]}, "spec.secrets[1]: Duplicate value"),
        ({"secrets": [GRANT | {"name": "../etc"}]}, "spec.secrets[0].name"),
        ({"egress": [EGRESS | {"cidr": "example.com"}]}, "spec.egress[0].cidr: Invalid value"),
        ({"egress": [EGRESS | {"cidr": "203.0.113.7"}]}, "must be a network such as 203.0.113.0/24"),
        ({"egress": [EGRESS | {"ports": []}]}, "spec.egress[0].ports"),
        ({"egress": [EGRESS | {"host": "api.example.com"}]}, "needs a cidr or a host, and not both"),
        ({"egress": [{"ports": [443]}]}, "needs a cidr or a host, and not both"),
        *(
            ({"egress": [{"ports": [443], "host": host}]}, message)
            for message, hosts in (
                (
                    "must be the full name of one host in lower case",
                    ("203.0.113.7", "*.example.com", "A.example.com", "a.b.", "0x7f.1", "a.b\n"),
                ),
                ("must be a name of the internet", ("kubernetes.default.svc", "x.svc.cluster.local", "app.localhost")),
                ("spec.egress[0].host: Too long", ("a." * 200 + "com",)),
            )
            for host in hosts
        ),
        ({"egress": [EGRESS | {"ports": [443, 443]}]}, "spec.egress[0].ports[1]: Duplicate value"),
        ({"egress": [EGRESS | {"ports": [70000]}]}, "spec.egress[0].ports[0]"),
        ({"resources": {"limits": {"cpu": "10m"}}}, "requests.cpu is more than limits.cpu"),
        ({"resources": {"requests": {"memory": "1Gi"}}}, "requests.memory is more than limits.memory"),
        ({"resources": {"limits": {"memory": 0}}}, "limits.memory must be more than 0, which is no limit"),
        ({"resources": {"limits": {"cpu": "0"}}}, "limits.cpu must be more than 0, which is no limit"),
        ({"resources": {"limits": {"ephemeral-storage": "0Mi"}}}, "limits.ephemeral-storage must be more than 0"),
        ({"resources": {"requests": {"cpu": -1}}}, "spec.resources.requests.cpu"),
        ({"resources": {"limits": {"cpu": "1e"}}}, "spec.resources.limits.cpu"),
        ({"resources": {"limits": {"cpu": "1e999999999"}}}, "spec.resources.limits.cpu"),
        ({"resources": {"limits": {"cpu": 0.01}}}, "requests.cpu is more than limits.cpu"),
        ({"resources": {"limits": {"cpu": 0.0}}}, "limits.cpu must be more than 0, which is no limit"),
        ({"resources": {"limits": {"cpu": True}}}, "spec.resources.limits.cpu must be a quantity"),
        ({"resources": {"limits": {"cpu": {}}}}, "spec.resources.limits.cpu must be a quantity"),
        ({"resources": {"requests": {"memory": []}}}, "spec.resources.requests.memory must be a quantity"),
        ({"resources": {"limits": {"cpu": ["1"]}}}, "spec.resources.limits.cpu"),
        ({"resources": {"limits": {"cpu": -0.5}}}, "spec.resources.limits.cpu"),
        ({"review": "auto"}, 'supported values: "Automatic", "WhenInDoubt", "Manual"'),
        ({"generation": {"maxAttempts": 6}}, "should be less than or equal to 5"),
        ({"generation": {"tokenBudget": 10}}, "should be greater than or equal to 1000"),
        ({"callTimeoutSeconds": 0}, "should be greater than or equal to 1"),
        ({"idleTimeoutSeconds": -1}, "should be greater than or equal to 0"),
        ({"revisionHistoryLimit": 11}, "should be less than or equal to 10"),
    ],
)
def test_what_is_wrong_is_refused(cluster: Cluster, namespace: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ClusterError) as refused:
        tried(cluster, skill(namespace, **fields))
    assert message in str(refused.value)


def test_the_largest_spec_is_taken(cluster: Cluster, namespace: str) -> None:
    """The estimate of what the rules cost has been accepted with the definition; this is what they do cost."""
    largest = skill(
        namespace,
        description="ü" * 8192,
        source={"inline": "x" * 65536},
        examples=[EXAMPLE | {"name": f"e{n}", "input": {"text": "x" * 4096}} for n in range(64)],
        egress=[{"cidr": f"203.0.113.{n}/32", "ports": list(range(1, 17))} for n in range(32)],
        secrets=[GRANT | {"name": f"s{n}"} for n in range(16)],
    )
    stored = tried(cluster, largest, "--server-side")
    assert len(Skill.model_validate(stored).spec.egress) == 32
    hosts = [{"host": "a." * 125 + "com", "ports": list(range(1, 17))} for _ in range(32)]
    stored = tried(cluster, skill(namespace, egress=hosts), "--server-side")
    assert [host for _, host, _ in Skill.model_validate(stored).spec.hosts] == [way["host"] for way in hosts]


@pytest.fixture(scope="module")
def applied(cluster: Cluster, namespace: str) -> Iterator[str]:
    with alone(cluster):
        cluster.kubectl("apply", "--server-side", "-n", namespace, "-f", str(EXAMPLES))
        yield namespace


@pytest.mark.serial("stops the controller")
def test_the_example_skills_are_taken_and_shown(cluster: Cluster, applied: str) -> None:
    names = sorted(path.stem for path in EXAMPLES.glob("*.yaml"))
    heading, *rows = cluster.kubectl("get", "ai", "-n", applied).splitlines()
    assert heading.split() == ["NAME", "READY", "STATUS", "ATTEMPTS", "TOKENS", "MAKER", "AGE"]
    assert [row.split()[0] for row in rows] == names


@pytest.mark.serial("stops the controller")
def test_status_is_taken_shown_waited_for_and_read_back(cluster: Cluster, applied: str) -> None:
    seen = Skill.model_validate(cluster.get("skill", "invoice-total", "-n", applied))
    now = seen.metadata.creation_timestamp
    assert now is not None
    status = SkillStatus(
        observed_generation=seen.metadata.generation,
        conditions=set_condition([], READY, "True", "Asleep", "\x1b[31m", seen.metadata.generation, now),
        url="http://gateway/x",
        image="registry/x@sha256:0",
        revision="0123456789",
        revision_digest="0123456789" + "0" * 54,
        generation=GenerationStatus(attempts=2, tokens=1234, model="m"),
        last_active_time=now,
        archive=ArchiveStatus(time=now, uid=seen.metadata.uid, generation=seen.metadata.generation, restore="0" * 64),
    )
    body = skill(applied, "invoice-total") | {"status": status.wire()}
    del body["spec"]
    cluster.kubectl("apply", "--server-side", "--subresource=status", "-f", "-", stdin=json.dumps(body))
    after = Skill.model_validate(cluster.get("skill", "invoice-total", "-n", applied))
    assert after.status == status
    assert after.spec == seen.spec
    assert after.metadata.generation == seen.metadata.generation
    cluster.kubectl("wait", "--for=condition=Ready", "skill/invoice-total", "-n", applied, "--timeout=5s")
    row = cluster.kubectl("get", "skill", "invoice-total", "-n", applied, "--no-headers", "-o", "wide").split()
    assert row[:5] == ["invoice-total", "True", "Asleep", "2", "1234"]
    assert row[6:] == ["registry/x@sha256:0", "http://gateway/x"]


WHOLE: dict[str, Any] = SMALLEST | {
    "examples": [EXAMPLE, {"name": "b", "input": {}, "error": "ValueError"}],
    "source": {"inline": "x"},
    "generation": {"model": "m", "maxAttempts": 2, "tokenBudget": 2000, "secondOpinion": "Always"},
    "review": "Manual",
    "egress": [{"cidr": "203.0.113.0/24", "ports": [1, 2]}],
    "secrets": [GRANT],
    "resources": {"requests": {"cpu": "1m", "memory": 1}, "limits": {"cpu": 1, "ephemeral-storage": "1Mi"}},
    "callTimeoutSeconds": 30,
    "idleTimeoutSeconds": 0,
    "archiveAfterSeconds": 60,
    "suspend": False,
    "revisionHistoryLimit": 3,
}
STRANGE: tuple[Any, ...] = (
    None, True, 0, -1, 1, 30.0, 2.5, 1e300, 2**63, 10**18, [], [None], [1], [{}], {}, {"a": None}, {"name": "a"},
    "", "a", "A", "a\n", "\0", "ü" * 63, "ü" * 16384, "1", "1k", "1.", "+1", "9" * 20,
    "10.0.0.0/8", "::/0", "::ffff:1.2.3.4/96", "010.0.0.0/8",
)  # fmt: skip


def places(node: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if place:
        yield place
    for key, child in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from places(child, (*place, key))


def mutated(chance: random.Random) -> dict[str, Any]:
    """A good spec with something strange in it, or something missing."""
    spec = deepcopy(WHOLE)
    for _ in range(chance.choice([1, 1, 2])):
        *above, last = chance.choice(list(places(spec)))
        holder = spec
        for key in above:
            holder = holder[key]
        if chance.random() < 0.2:
            del holder[last]
        else:
            holder[last] = deepcopy(chance.choice(STRANGE))
    return spec


def test_whatever_the_api_server_takes_is_read(cluster: Cluster, namespace: str) -> None:
    """A Skill that was stored and cannot be read would never be told what is wrong with it."""
    chance, taken = random.Random(20), 0
    with config.new_client_from_config(str(cluster.kubeconfig)) as connection:  # type: ignore[no-untyped-call]
        skills = client.CustomObjectsApi(connection)
        for _ in range(300):
            body = skill(namespace) | {"spec": mutated(chance)}
            try:
                stored = skills.create_namespaced_custom_object(
                    GROUP, VERSION, namespace, "skills", body, dry_run="All"
                )
            except client.ApiException as error:
                if error.status not in {400, 422}:
                    raise
            else:
                Skill.model_validate(stored)
                taken += 1
    assert taken > 30
