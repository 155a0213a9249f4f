"""Push the images of this checkout to a registry of yours, and write the chart's values that name them.

    python3 -m tests.cluster.publish registry.example/team [VALUES.yaml]      # make publish TO=registry.example/team

Who you are there is what `docker login` or `skopeo login` keeps.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.cluster import imagebuild
from tests.cluster.packages import ensure
from tests.cluster.shell import ClusterError, run, say, step

VALUES = Path("values-images.yaml")


def publish(images: dict[str, dict[str, str]], place: str, *options: str) -> dict[str, str]:
    """Each image's digest there. `place` is host[:port][/path]; options are skopeo's."""
    ensure(("skopeo",))
    digests = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, image in images.items():
            whole = name in imagebuild.ARCHIVES
            source = f"docker-archive:{image['path']}" if whole else f"oci:{image['path']}"
            tag = Path(image["path"]).stem.removeprefix(f"{name}-")
            told = Path(folder, name)
            kept = [] if whole else ["--preserve-digests"]
            with step(f"pushed {name}"):
                run(
                    "skopeo", "--insecure-policy", "copy", "--quiet", *kept, f"--digestfile={told}", *options,
                    source, f"docker://{place}/{name}:{tag}",
                )  # fmt: skip
            digests[name] = told.read_text().strip()
    return digests


def values(place: str, digests: dict[str, str]) -> dict[str, Any]:
    """For the chart: these images, and builds that go to the same registry, since they add a layer to one of them."""

    def image(name: str) -> dict[str, str]:
        return {"repository": f"{place}/{name}", "digest": digests[name]}

    return {
        "image": image("operator"),
        "egressProxy": {"image": image("egress-proxy")},
        "images": {name: f"{place}/{name}@{digests[name]}" for name in ("runtime", "checker")},
        "registry": {
            "embedded": False,
            "push": place,
            "pull": place,
            "read": f"https://{place.partition('/')[0]}",
        },
    }


def main(arguments: list[str]) -> int:
    match arguments:
        case [place]:
            file = VALUES
        case [place, path]:
            file = Path(path)
        case _:
            say(__doc__ or "")
            return 2
    try:
        digests = publish(imagebuild.build_all(), place.rstrip("/"))
    except ClusterError as error:
        say(f"error: {error}")
        return 1
    file.write_text(json.dumps(values(place.rstrip("/"), digests), indent=2) + "\n")  # which is YAML, too
    say(f"values: {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
