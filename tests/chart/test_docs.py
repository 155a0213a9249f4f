"""The values and the health check of the how-to guides are what the chart and Argo CD take."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from hack import publish
from tests.chart.render import CHART, ROOT, call


def test_a_cluster_of_one_s_own(tmp_path: Path) -> None:
    pages = [(ROOT / "docs" / "how-to" / name).read_text() for name in ("install.md", "gitops.md")]
    blocks = re.findall(r"```yaml\n(# [a-z.-]+\n.*?)```", "\n".join(pages), re.DOTALL)
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
    health = yaml.safe_load(by_name["argocd-cm"])["data"]["resource.customizations.health.skill-operator.dev_Skill"]
    assert health.rstrip().endswith("return found")
