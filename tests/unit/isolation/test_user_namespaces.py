from __future__ import annotations

from typing import Any

import pytest

from skill_operator.isolation.user_namespaces import FRESH_SECONDS, NodeFeatures, NodeFeaturesCache
from skill_operator.k8s.errors import Forbidden
from skill_operator.settings import IsolationSettings

ABLE = [{"name": "", "features": {"userNamespaces": True}}]
RUNSC = [{"name": ""}, {"name": "runsc", "features": {"userNamespaces": True}}]


def node(name: str, handlers: Any = None) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {"runtimeHandlers": handlers} if handlers is not None else {}}


@pytest.mark.parametrize(
    ("mode", "nodes", "runtime_class", "enabled", "message"),
    [
        ("Auto", [node("a", ABLE)], "", True, "of its own"),
        ("Auto", [], "", True, "of its own"),
        ("Auto", [node("a", ABLE), node("old")], "", False, "old; kernel 6.3"),
        ("Auto", [node("a", RUNSC)], "", False, "nodes have none: a"),
        ("Auto", [node("a", RUNSC)], "gvisor", True, "of its own"),
        ("Auto", [node(f"n{n}") for n in range(9)], "", False, "n0, n1, n2 …"),
        ("Auto", None, "", True, "of its own"),
        ("Required", [node("old")], "", True, "of its own"),
        ("Never", [node("a", ABLE)], "", False, "isolation.userNamespaces: Never"),
    ],
)
def test_what_pods_get_and_what_is_reported(
    mode: Any, nodes: Any, runtime_class: str, enabled: bool, message: str
) -> None:
    namespace = NodeFeatures(nodes).user_namespace(IsolationSettings(user_namespaces=mode), runtime_class)
    assert (namespace.enabled, message in namespace.message) == (enabled, True), namespace


class FakeNodes:
    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.times = 0

    async def list(self, kind: str) -> Any:
        assert kind == "Node"
        self.times += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def test_nodes_are_listed_once_a_minute() -> None:
    cluster, now = FakeNodes([node("old")]), [0.0]
    cache = NodeFeaturesCache(cluster, IsolationSettings(), lambda: now[0])  # type: ignore[arg-type]
    assert not (await cache.read()).user_namespace(IsolationSettings()).enabled
    cluster.answer = [node("new", ABLE)]
    assert not (await cache.read()).user_namespace(IsolationSettings()).enabled
    now[0] = FRESH_SECONDS
    assert (await cache.read()).user_namespace(IsolationSettings()).enabled
    assert cluster.times == 2


async def test_who_may_not_list_nodes_asks_for_them_all_the_same() -> None:
    cache = NodeFeaturesCache(FakeNodes(Forbidden(403, "no")), IsolationSettings())  # type: ignore[arg-type]
    assert (await cache.read()).user_namespace(IsolationSettings()).enabled


@pytest.mark.parametrize("asked", ["Required", "Never"])
async def test_where_the_answer_changes_nothing_nobody_asks(asked: Any) -> None:
    cluster = FakeNodes([])
    await NodeFeaturesCache(cluster, IsolationSettings(user_namespaces=asked)).read()  # type: ignore[arg-type]
    assert cluster.times == 0
