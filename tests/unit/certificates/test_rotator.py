"""The rotator against an API server in memory: what it writes, and that no caller ever meets a strange certificate."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from prometheus_client import REGISTRY

from skill_operator.certificates import issuing
from skill_operator.certificates import rotator as module
from skill_operator.certificates.issuing import is_issued_by, parse_certificates, read_key_pair
from skill_operator.certificates.rotator import NotOurs, cluster_domain, server_names
from skill_operator.k8s.errors import Conflict, Forbidden, Unavailable
from skill_operator.settings import GatewaySettings, SelfSignedSettings
from tests.unit.certificates.samples import (
    AUTHORITY,
    MORE_NAMES,
    NAMES,
    NOW,
    OURS,
    SERVICE,
    SERVING,
    SETTINGS,
    TRUST,
    Clock,
    Stored,
    b64,
    rotator,
)  # fmt: skip
from tests.unit.certificates.test_issuing import HOSTILE

DAY = timedelta(days=1)


@pytest.fixture
def cluster() -> Stored:
    return Stored()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def believed(cluster: Stored, names: tuple[str, ...] = NAMES) -> bool:
    """Whether callers with the ConfigMap believe the certificate in the Secret."""
    pair = read_key_pair(cluster.data(SERVING))
    return pair is not None and any(
        is_issued_by(pair.certificate, ca) and issuing.is_serving_for(pair.certificate, names, ca)
        for ca in parse_certificates(cluster.bundle)
    )


async def test_all_is_made_in_the_order_of_trust_and_then_left_alone(cluster: Stored, clock: Clock) -> None:
    await rotator(cluster, clock).rotate()
    assert cluster.writes == [TRUST, AUTHORITY, SERVING]
    assert believed(cluster)
    assert {cluster.objects[key]["type"] for key in (AUTHORITY, SERVING)} == {"kubernetes.io/tls"}
    assert set(cluster.data(AUTHORITY)) == set(cluster.data(SERVING)) == {"tls.crt", "tls.key"}
    assert set(cluster.data(TRUST)) == {"ca.crt"}
    assert b"PRIVATE" not in cluster.bundle
    assert cluster.data(AUTHORITY)["tls.key"] not in json.dumps(cluster.objects[SERVING])
    clock.now += 59 * DAY
    await rotator(cluster, clock).rotate()
    assert len(cluster.writes) == 3, "nothing is written twice"
    clock.now += DAY
    await rotator(cluster, clock).rotate()
    assert cluster.writes[3:] == [SERVING]
    assert believed(cluster)


@pytest.mark.parametrize("key", OURS, ids=["authority", "trust", "serving"])
async def test_what_is_deleted_comes_back_and_stays_believed(
    key: tuple[str, str], cluster: Stored, clock: Clock
) -> None:
    await rotator(cluster, clock).rotate()
    shown, bundle = cluster.data(SERVING), cluster.bundle
    del cluster.objects[key]
    await rotator(cluster, clock).rotate()
    assert key in cluster.writes[3:]
    assert believed(cluster)
    assert (cluster.data(SERVING) == shown) is (key != SERVING)
    assert bundle in cluster.bundle, "gateways go on with what they have loaded, and callers with what they have read"


async def test_who_deletes_both_secrets_is_rid_of_the_old_ca_at_once(cluster: Stored, clock: Clock) -> None:
    await rotator(cluster, clock).rotate()
    old = cluster.bundle
    del cluster.objects[AUTHORITY], cluster.objects[SERVING]
    await rotator(cluster, clock).rotate()
    assert believed(cluster)
    assert old not in cluster.bundle


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@pytest.mark.parametrize("key", [AUTHORITY, SERVING], ids=["authority", "serving"])
async def test_hostile_bytes_are_replaced(key: tuple[str, str], cluster: Stored, clock: Clock) -> None:
    await rotator(cluster, clock).rotate()
    for what, data in HOSTILE:
        for value in (data, {**cluster.data(key), "former.crt": "====", "junk": b64(b"junk")}, None):
            cluster.objects[key]["data"] = value
            await rotator(cluster, clock).rotate()
            assert believed(cluster), what
            assert set(cluster.data(key)) <= {"tls.crt", "tls.key", "former.crt"}, what
    count = len(cluster.writes)
    await rotator(cluster, clock).rotate()
    assert len(cluster.writes) == count


@pytest.mark.parametrize(
    "data",
    [None, {}, {"ca.crt": ""}, {"ca.crt": None}, {"ca.crt": "\ud800"}, {"ca.crt": "x" * (1 << 20)}, {"a": "b"}, []],
)
async def test_the_config_map_follows_from_the_secret(data: Any, cluster: Stored, clock: Clock) -> None:
    await rotator(cluster, clock).rotate()
    bundle = cluster.bundle
    cluster.objects[TRUST] |= {"data": data, "binaryData": {"ca.crt": "AA=="}}
    cluster.objects[TRUST]["metadata"]["annotations"] = {"of": "others"}
    await rotator(cluster, clock).rotate()
    assert (cluster.data(TRUST), cluster.bundle) == ({"ca.crt": bundle.decode()}, bundle)
    assert "binaryData" not in cluster.objects[TRUST]
    assert cluster.objects[TRUST]["metadata"]["annotations"] == {"of": "others"}
    assert cluster.writes[3:] == [TRUST]


async def test_nobody_is_trusted_because_the_config_map_says_so(cluster: Stored, clock: Clock) -> None:
    await rotator(cluster, clock).rotate()
    strange = issuing.encode_certificates([issuing.issue_authority(NOW, NAMES).certificate])
    cluster.data(TRUST)["ca.crt"] += strange.decode()
    del cluster.objects[AUTHORITY]
    await rotator(cluster, clock).rotate()
    assert strange not in cluster.bundle
    assert believed(cluster)


async def test_new_names_are_served_when_callers_know_the_new_ca(cluster: Stored, clock: Clock) -> None:
    await rotator(cluster, clock).rotate()
    shown, old = cluster.data(SERVING), cluster.bundle
    await rotator(cluster, clock, MORE_NAMES).rotate()
    assert cluster.data(SERVING) == shown
    assert cluster.bundle.endswith(old)
    assert len(parse_certificates(cluster.bundle)) == 2
    clock.now += timedelta(minutes=5)
    await rotator(cluster, clock, MORE_NAMES).rotate()
    assert believed(cluster, MORE_NAMES)
    assert cluster.bundle.endswith(old), "a gateway may not have loaded it yet"
    clock.now += DAY
    await rotator(cluster, clock, MORE_NAMES).rotate()
    assert old not in cluster.bundle
    assert believed(cluster, MORE_NAMES)
    assert "former.crt" not in cluster.data(AUTHORITY)


@pytest.mark.parametrize("key", OURS, ids=["authority", "trust", "serving"])
@pytest.mark.parametrize(
    "fields", [{"immutable": True}, {"type": "Opaque"}, {"type": "kubernetes.io/dockerconfigjson"}]
)
async def test_what_cannot_be_changed_is_made_anew(
    key: tuple[str, str], fields: dict[str, Any], cluster: Stored, clock: Clock
) -> None:
    await rotator(cluster, clock).rotate()
    uid = cluster.objects[key]["metadata"]["uid"]
    applies = key != TRUST or "immutable" in fields  # a ConfigMap has no type
    cluster.objects[key] |= fields if applies else {}
    cluster.objects[key]["data"] = {"a": "b"}
    await rotator(cluster, clock).rotate()
    assert believed(cluster)
    assert (cluster.objects[key]["metadata"]["uid"] != uid) is applies
    assert "immutable" not in cluster.objects[key]


async def test_when_it_expires_is_measured(cluster: Stored, clock: Clock) -> None:
    await rotator(cluster, clock).rotate()
    name = "skill_operator_certificate_expiry_timestamp_seconds"
    for certificate, life in (("serving", 90 * DAY), ("authority", 5 * 365 * DAY)):
        assert REGISTRY.get_sample_value(name, {"certificate": certificate}) == (NOW + life).timestamp()


async def test_objects_of_others_are_left_alone(cluster: Stored, clock: Clock) -> None:
    for key in OURS:
        cluster.objects = {key: {"kind": key[0], "metadata": {"name": key[1], "resourceVersion": "1"}, "data": {}}}
        for labels in ({}, {"app.kubernetes.io/managed-by": "Helm"}, None):
            cluster.objects[key]["metadata"]["labels"] = labels
            with pytest.raises(NotOurs, match=f"{key[1]} is not the operator's: delete or rename it"):
                await rotator(cluster, clock).rotate()
    assert not cluster.writes


async def test_who_writes_in_between_wins(cluster: Stored, clock: Clock) -> None:
    await rotator(cluster, clock).rotate()
    del cluster.objects[SERVING]
    read = cluster.get

    async def raced(kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        found = await read(kind, namespace, name)
        if (kind, name) == SERVING:
            await type(cluster).create(cluster, {"kind": kind, "metadata": {"name": name}, "data": {}})
        return found

    cluster.get = raced  # type: ignore[method-assign]
    with pytest.raises(Conflict):
        await rotator(cluster, clock).rotate()


async def test_a_problem_is_logged_once_and_tried_again(
    cluster: Stored, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "CHECK_SECONDS", 0.0)
    tries, enough, read = 0, asyncio.Event(), cluster.get

    async def refused(kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        nonlocal tries
        tries += 1
        if tries > 5:
            return await read(kind, namespace, name)
        raise Forbidden("secrets is forbidden", 403)

    async def create(obj: dict[str, Any]) -> None:
        await Stored.create(cluster, obj)
        if len(cluster.writes) == 3:
            enough.set()

    cluster.get, cluster.create = refused, create  # type: ignore[method-assign]
    running = asyncio.create_task(rotator(cluster, clock).run())
    async with asyncio.timeout(10):
        await enough.wait()
    running.cancel()
    assert [r.getMessage() for r in caplog.records if r.levelname == "ERROR"] == [
        "the gateway's certificate cannot be kept: secrets is forbidden"
    ]


async def test_a_secret_that_cannot_be_written_costs_one_ca(cluster: Stored, clock: Clock) -> None:
    """A quota or a policy may refuse it for days: what callers read must not change with each look."""
    mine, bundles = rotator(cluster, clock), set()
    for _ in range(5):
        cluster.writes_left = 0 if bundles else 1
        with pytest.raises(Unavailable):
            await mine.rotate()
        bundles.add(cluster.bundle)
        clock.now += timedelta(hours=1)
    assert len(bundles) == len(cluster.writes) == 1
    cluster.writes_left = -1
    await mine.rotate()
    assert {cluster.bundle} == bundles
    assert believed(cluster)


async def test_a_surprise_ends_nothing(
    cluster: Stored, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "CHECK_SECONDS", 0.0)
    looks, enough = 0, asyncio.Event()

    def surprised(_: object) -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            enough.set()
        raise ZeroDivisionError

    monkeypatch.setattr(module, "find", surprised)
    running = asyncio.create_task(rotator(cluster, clock).run())
    async with asyncio.timeout(10):
        await enough.wait()
    assert not running.done()
    running.cancel()
    assert "a look at the gateway's certificate failed" in caplog.text


async def test_as_many_and_as_long_names_as_may_be_overlap_as_well(cluster: Stored, clock: Clock) -> None:
    label = "a" * 60
    for number in range(9):
        extra = tuple(f"n{number}-{each:02}.{label}.{label}.{label}.{'b' * 55}.example" for each in range(64))
        assert len(SelfSignedSettings(extra_names=list(extra)).extra_names) == 64
        clock.now += timedelta(minutes=2)
        await rotator(cluster, clock, (*NAMES, *extra)).rotate()
        assert len(parse_certificates(cluster.bundle)) == number + 1
    sizes = [len(json.dumps(each)) for each in cluster.objects.values()]
    assert max(sizes) < 512 << 10, "etcd takes 1.5 MiB"


LAG = timedelta(minutes=2)
"""So late a kubelet brings a changed Secret or ConfigMap to a pod."""


class History:
    """What callers have read and gateways have loaded, each up to LAG late."""

    def __init__(self) -> None:
        self.bundles: list[tuple[datetime, bytes]] = []
        self.shown: list[tuple[datetime, Any]] = []

    def note(self, cluster: Stored, now: datetime) -> None:
        """Nobody loads what is lost or spoilt."""
        pair = read_key_pair(cluster.objects.get(SERVING, {}).get("data") or {})
        bundle = cluster.bundle if TRUST in cluster.objects else b""
        for views, value in ((self.bundles, bundle), (self.shown, pair and pair.certificate)):
            if value and value != b"rubbish" and (not views or views[-1][1] != value):
                views.append((now, value))

    def current(self, views: list[tuple[datetime, Any]], now: datetime) -> list[Any]:
        """Every value that somebody may still have."""
        ends = [began for began, _ in views[1:]] + [now + LAG] * bool(views)
        return [value for (_, value), end in zip(views, ends, strict=True) if end > now - LAG]

    def check(self, now: datetime) -> None:
        for bundle in self.current(self.bundles, now):
            known = parse_certificates(bundle)
            for certificate in self.current(self.shown, now):
                assert issuing.is_valid(certificate, now)
                assert any(is_issued_by(certificate, ca) and issuing.is_valid(ca, now) for ca in known), now


def breaks(random_: random.Random, cluster: Stored) -> None:
    """One object is lost or spoilt, or nothing."""
    _, data = random_.choice(HOSTILE)
    what: list[Callable[[], Any]] = [
        lambda: None,
        lambda: cluster.objects.pop(random_.choice([TRUST, SERVING, AUTHORITY])),
        lambda: cluster.objects[random_.choice([SERVING, AUTHORITY])].update(data=data),
        lambda: cluster.data(AUTHORITY).update({"former.crt": "rubbish", "more": "rubbish"}),
        lambda: cluster.data(TRUST).update({"ca.crt": "rubbish"}),
    ]
    random_.choice(what)()


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@pytest.mark.parametrize("seed", range(6))
async def test_for_decades_no_caller_meets_a_certificate_that_it_does_not_know(seed: int) -> None:
    """Time passes in leaps, names change, objects are lost, and the controller is away for weeks."""
    random_, cluster, clock, history, names = random.Random(seed), Stored(), Clock(), History(), NAMES
    seen = set()
    for _ in range(100):
        if random_.random() < 0.2:  # the controller ends in the middle, for a day; nothing else happens meanwhile
            cluster.writes_left = random_.randint(0, 2)
            with contextlib.suppress(Unavailable):
                await rotator(cluster, clock, names).rotate()
            cluster.writes_left = -1
            history.note(cluster, clock.now)
            clock.now += random_.choice([timedelta(minutes=3), DAY])
            history.check(clock.now)
        for pause in (timedelta(0), timedelta(seconds=10), timedelta(minutes=1), timedelta(minutes=10)):
            clock.now += pause
            await rotator(cluster, clock, names).rotate()
            history.note(cluster, clock.now)
            history.check(clock.now)
        seen.add(cluster.bundle)
        assert len(parse_certificates(cluster.bundle)) <= 9
        clock.now += random_.choice([timedelta(minutes=3), timedelta(hours=5), DAY, 8 * DAY, 21 * DAY])
        history.check(clock.now)
        if random_.random() < 0.15:
            names = random_.choice([NAMES, MORE_NAMES, (*NAMES, "192.0.2.7"), (*NAMES, "other.example")])
        else:
            breaks(random_, cluster)
    assert len(seen) > 20


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("", "cluster.local"),
        (
            "search skill-operator.svc.corp.internal svc.corp.internal corp.internal\nnameserver 10.0.0.1\n",
            "corp.internal",
        ),
        ("nameserver 10.0.0.1\nsearch  a.example\tskill-operator.svc.k8s.  svc.k8s", "k8s"),
        ("search other.svc.corp.internal", "cluster.local"),
        ("search skill-operator.svc.", "cluster.local"),
        ("search skill-operator.svc.UPPER_case", "cluster.local"),
        ("#search skill-operator.svc.no\nsearch", "cluster.local"),
    ],
)
def test_the_cluster_s_domain_is_what_the_kubelet_says(text: str, domain: str) -> None:
    assert cluster_domain(text, "skill-operator") == domain
    assert server_names(SETTINGS, text)[3] == f"{SERVICE}.skill-operator.svc.{domain}"


def test_names_are_one_list_whatever_their_order_and_spelling() -> None:
    def names(*extra: str) -> tuple[str, ...]:
        own = SelfSignedSettings(enabled=True, service=SERVICE, extra_names=list(extra))
        return server_names(SETTINGS.model_copy(update={"gateway": GatewaySettings(self_signed=own)}), "")

    assert names() == NAMES
    assert names("skills.example", "fd00:0::1", "10.1.2.3") == MORE_NAMES
    assert names("10.1.2.3", "skills.example", "fd00::1", "skills.example", NAMES[0]) == MORE_NAMES


@pytest.mark.parametrize(
    "name", ["", "*.example", "a:80", "https://a", "A.example", "a b", "999.1.1.1", "1.2.3", "fe80::1%eth0", "a..b", "-a", "é.example", f"{'a' * 64}.example", f"{'a.' * 127}a"]
)  # fmt: skip
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="neither a host name in lower case"):
        SelfSignedSettings(extra_names=[name])
