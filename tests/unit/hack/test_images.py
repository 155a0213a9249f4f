"""The image that the chart's registry is seeded from, but for its build: two layouts become one."""

from __future__ import annotations

import json
from pathlib import Path

from hack.images import ARCHIVES, BASES, merge_layouts
from skill_operator.registry.seed import seed
from skill_operator.registry.storage import RegistryStorage
from tests.unit.registry.test_seed import Layout


def test_one_layout_holds_what_two_hold(tmp_path: Path) -> None:
    layouts = [Layout(tmp_path / name) for name in ("runtime", "checker")]
    for layout, digest in zip(layouts, (layouts[0].runtime, layouts[1].checker), strict=True):
        manifest = {"digest": digest, "annotations": {"org.opencontainers.image.ref.name": "latest"}}
        (layout.folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
        for path in layout.folder.rglob("*"):
            path.chmod(0o700 if path.is_dir() else 0o600)  # as builders may leave them
    merged = tmp_path / BASES
    merge_layouts([layout.folder for layout in layouts], merged)
    index = json.loads((merged / "index.json").read_text())
    assert [each["digest"] for each in index["manifests"]] == [layouts[0].runtime, layouts[1].checker]
    assert json.loads((merged / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    assert {path.stat().st_mode & 0o777 for path in merged.rglob("*") if path.is_file()} == {0o644}
    assert {path.stat().st_mode & 0o777 for path in (merged, *merged.rglob("*")) if path.is_dir()} == {0o755}
    seed(layouts[0].settings(), merged, RegistryStorage(tmp_path / "registry", 600))
    revisions = {path.parent.name for path in (tmp_path / "registry").rglob("_manifests/revisions/sha256/*/link")}
    assert revisions == {digest.removeprefix("sha256:") for digest in (layouts[0].runtime, layouts[1].checker)}


def test_it_comes_onto_the_nodes_as_the_operator_does() -> None:
    assert {"operator", BASES} <= set(ARCHIVES)
