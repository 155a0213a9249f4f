"""The gateway with a certificate of its own: what is rendered is the same each time, and rights are as few as will do."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from skill_operator import naming
from skill_operator.certificates.rotator import server_names
from tests.chart.render import (
    CASES,
    CHART,
    NAMESPACE,
    RELEASE,
    Refused,
    Rendered,
    call,
    containers,
    labels,
    pod,
    render,
    setting,
    values,
)  # fmt: skip
from tests.chart.test_notes import notes
from tests.chart.test_rbac import rules
from tests.chart.test_settings import settings

every_case = pytest.mark.parametrize("case", CASES)
OWN = setting("gateway.tls.selfSigned", True)
MORE = setting("gateway.tls.extraNames", ["skills.example", "10.1.2.3", "fd00::1"])
GIVEN = setting("gateway.tls.secretName", "gateway-tls")


def template(case: str, *more: str) -> str:
    arguments = [argument for one in more for argument in ("--set-json", one)]
    where = ("--namespace", NAMESPACE, "--values", str(values(case)))
    return call("template", RELEASE, str(CHART), *where, *arguments)


@every_case
@pytest.mark.parametrize("more", [(), (OWN, MORE), (GIVEN,)], ids=["plain", "own", "given"])
def test_two_renderings_are_one_and_hold_no_key(case: str, more: tuple[str, ...]) -> None:
    """Whatever is minted while a template is rendered would change with every sync of GitOps."""
    first = template(case, *more)
    assert template(case, *more) == first
    assert "PRIVATE KEY" not in first
    assert "BEGIN CERTIFICATE" not in first


def test_no_template_makes_or_looks_up_anything() -> None:
    banned = re.compile(
        r"\b(gen(CA|SelfSignedCert|SignedCert|PrivateKey)\w*|rand\w+|uuidv4|lookup|now|derivePassword)\b"
    )
    for path in (CHART / "templates").iterdir():
        code = "".join(re.findall(r"\{\{(?!-? */\*).*?\}\}", path.read_text(), re.DOTALL))
        assert not banned.search(re.sub(r'"[^"]*"', "", code)), path.name


def mounted(rendered: Rendered, component: str) -> set[str]:
    """The Secrets that the pods of a component can read."""
    text = json.dumps(pod(rendered.component("Deployment", component))["spec"]["volumes"])
    return set(re.findall(r'"secretName": "([^"]+)"', text)) | set(
        re.findall(r'"secret": \{[^}]*"name": "([^"]+)"', text)
    )


@every_case
def test_the_gateway_waits_for_its_certificate_and_never_has_the_ca_s_key(case: str, tmp_path: Path) -> None:
    rendered = render(case, OWN)
    own = settings(rendered, tmp_path).gateway.self_signed
    assert own.enabled
    certificate, key = naming.gateway_certificate(own.service), naming.gateway_authority(own.service)
    assert mounted(rendered, "gateway") == {certificate}
    (volume,) = (v for v in pod(rendered.component("Deployment", "gateway"))["spec"]["volumes"] if v["name"] == "tls")
    assert volume["secret"] == {"secretName": certificate, "defaultMode": 0o440}, (
        "not optional: no pod starts without it"
    )
    for each in rendered.kind("Deployment", "DaemonSet"):
        assert key not in json.dumps(each)
    names = {obj["metadata"]["name"] for obj in rendered.objects}
    assert not names & {certificate, key, naming.gateway_trust(own.service)}, "Helm would write over the controller's"


@every_case
def test_both_ways_to_a_certificate_serve_alike(case: str, tmp_path: Path) -> None:
    found = []
    for way in (OWN, GIVEN):
        rendered = render(case, way, setting("gateway.url", ""))
        known = settings(rendered, tmp_path)
        service = rendered.one("Service", known.gateway.self_signed.service)
        (mount,) = (
            m
            for m in next(containers(rendered.component("Deployment", "gateway")))["volumeMounts"]
            if m["name"] == "tls"
        )
        assert known.gateway.tls_folder == mount["mountPath"]
        found.append((service["spec"]["ports"], known.gateway_url, mount))
    assert found[0] == found[1]
    assert found[0][1].startswith("https://")


@every_case
@pytest.mark.parametrize("release", [RELEASE, "prod"])
def test_the_certificate_has_the_service_s_names(case: str, release: str, tmp_path: Path) -> None:
    rendered = render(case, OWN, MORE, setting("gateway.url", ""), release=release)
    known = settings(rendered, tmp_path)
    assert (
        labels(rendered.one("Service", known.gateway.self_signed.service))["app.kubernetes.io/component"] == "gateway"
    )
    names = server_names(known, "")
    assert known.gateway_url.removeprefix("https://") in names
    assert set(names) <= {*known.gateway.hosts}, "what it is known by it may be called"
    assert {"skills.example", "10.1.2.3", "fd00::1"} < set(names)


@every_case
def test_the_controller_alone_may_keep_the_certificate_and_no_other_secret(case: str, tmp_path: Path) -> None:
    rendered = render(case, OWN)
    service = settings(rendered, tmp_path).gateway.self_signed.service
    found = [(where, rule) for where, rule in rules(rendered, "controller") if "secrets" in rule["resources"]]
    both = [naming.gateway_authority(service), naming.gateway_certificate(service)]
    assert found == [
        (NAMESPACE, {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]}),
        (
            NAMESPACE,
            {"apiGroups": [""], "resources": ["secrets"], "resourceNames": both, "verbs": ["get", "update", "delete"]},
        ),
    ]
    updated = [
        rule
        for where, rule in rules(rendered, "controller")
        if "configmaps" in rule["resources"] and "update" in rule["verbs"]
    ]
    assert updated == [
        {
            "apiGroups": [""],
            "resources": ["configmaps"],
            "resourceNames": [naming.gateway_trust(service)],
            "verbs": ["update"],
        }
    ]
    for component in ("gateway", "registry"):
        if component == "gateway" or case != "external-registry":
            for where, rule in rules(rendered, component):
                assert where != NAMESPACE or "secrets" not in rule["resources"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ((OWN, GIVEN), "set secretName or selfSigned, not both"),
        ((MORE,), "gateway.tls.extraNames are for selfSigned"),
        ((GIVEN, MORE), "gateway.tls.extraNames are for selfSigned"),
        ((setting("gateway.tls.selfSigned", "true"),), "/gateway/tls/selfSigned"),
        ((setting("gateway.tls.selfsigned", True),), "'selfsigned' not allowed"),
        *(
            ((OWN, setting("gateway.tls.extraNames", [name])), "/gateway/tls/extraNames/0")
            for name in (
                "",
                "*.example",
                "skills.example:443",
                "https://a",
                "Skills.example",
                "a b",
                "1.2.3",
                "a..b",
                "a\n",
                1,
            )
        ),
        ((OWN, setting("gateway.tls.extraNames", ["a", "a"])), "/gateway/tls/extraNames"),
    ],
)
def test_what_contradicts_itself_or_is_no_name_is_refused(more: tuple[str, ...], said: str) -> None:
    with pytest.raises(Refused, match=re.escape(said)):
        render("default", *more)


@pytest.mark.parametrize(
    "name", ["a", "a.b", "10.0.0.1", "fd00::1", "::ffff:10.0.0.1", "xn--80ak6aa92e.example", "a1.example"]
)
def test_what_the_chart_takes_the_processes_take(name: str, tmp_path: Path) -> None:
    rendered = render("default", OWN, setting("gateway.tls.extraNames", [name]))
    assert settings(rendered, tmp_path).gateway.self_signed.extra_names == [name]


@every_case
def test_notes_say_what_is_plain_and_how_to_change_it(case: str) -> None:
    text, own = notes(case), notes(case, OWN)
    assert "set gateway.tls.selfSigned: true" in text
    assert "The gateway speaks plain HTTP" not in own
    assert re.search(r"get configmap (\S+) -o jsonpath='\{\.data\.ca\\\.crt\}' > gateway-ca.crt", own)
    assert "--cacert gateway-ca.crt" in own
    assert " -k " not in own
    assert "configmap" not in text
    for kept in ("gateway-ca-key", "gateway-certificate", "gateway-ca "):
        assert kept in own


def test_notes_name_each_plain_neighbour() -> None:
    text = notes("two-models")
    assert "The endpoint of the model local speaks plain HTTP" in text
    assert "the model large" not in text
    assert "speaks plain HTTP" not in notes("two-models", OWN, setting("models", []), setting("registry.embedded", False),
                                            *external())  # fmt: skip
    reads = setting("registry.read", "http://r.example")
    assert "http://r.example over plain HTTP: use an https:// address" in notes("external-registry", reads)
    assert "registry.read" not in notes("external-registry")
    assert "set registry.insecure: false" in notes("external-registry", setting("registry.insecure", True))
    assert "Not secure" not in notes("external-registry", OWN)


def external() -> tuple[str, ...]:
    place = {"push": "r.example", "pull": "r.example", "read": "https://r.example", "pushSecret": "push"}
    return tuple(setting(f"registry.{name}", value) for name, value in place.items())
