"""The values of the how-to guides, and the settings for Argo CD, are what the chart and Argo CD take."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from hack import publish
from tests.chart.render import CHART, ROOT, call


def test_a_cluster_of_one_s_own(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "how-to" / "install.md").read_text()
    blocks = re.findall(r"```yaml\n(# [a-z.-]+\n.*?)```", page, re.DOTALL)
    by_name = {block.split("\n", 1)[0].removeprefix("# "): block for block in blocks}
    (tmp_path / "values.yaml").write_text(by_name["values.yaml"])
    digests = dict.fromkeys(("operator", "egress-proxy", "runtime", "checker"), f"sha256:{'a' * 64}")
    (tmp_path / "images.yaml").write_text(json.dumps(publish.values("registry.example/team", digests)))
    files = ("--values", str(tmp_path / "images.yaml"), "--values", str(tmp_path / "values.yaml"))
    text = call("template", "skill-operator", str(CHART), "--namespace", "skill-operator", *files)
    settings = next(
        obj for obj in yaml.safe_load_all(text) if obj and obj["metadata"]["name"] == "skill-operator-settings"
    )
    known = json.loads(settings["data"]["settings.json"])
    assert known["registry"]["push"] == known["registry"]["pull"] == "registry.example/team"
    assert known["registry"]["read"] == "https://registry.example"
    assert known["images"]["runtime"] == f"registry.example/team/runtime@sha256:{'a' * 64}"


def test_argo_cd_s_settings_hold_the_scripts_as_they_are() -> None:
    scripts = ROOT / "deploy" / "argocd" / "skill-operator.dev" / "Skill"
    settings = yaml.safe_load((ROOT / "deploy" / "argocd" / "argocd-cm.yaml").read_text())["data"]
    assert (
        settings.pop("resource.customizations.health.skill-operator.dev_Skill") == (scripts / "health.lua").read_text()
    )
    actions = yaml.safe_load(settings.pop("resource.customizations.actions.skill-operator.dev_Skill"))
    assert actions.pop("discovery.lua") == (scripts / "actions" / "discovery.lua").read_text()
    defined = {each["name"]: each["action.lua"] for each in actions.pop("definitions")}
    assert defined == {path.parent.name: path.read_text() for path in scripts.glob("actions/*/action.lua")}
    assert settings == actions == {}
