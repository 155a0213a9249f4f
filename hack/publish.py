"""Push the images of this checkout to a registry of yours, and write the chart's values that name them.

    python3 -m hack.publish registry.example/team      # make publish TO=registry.example/team

Who you are there is what `docker login` or `skopeo login` keeps.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from hack import images
from hack.cluster.packages import ensure
from hack.cluster.shell import ClusterError, run, say, step


def publish(images: dict[str, dict[str, str]], place: str, *options: str) -> dict[str, str]:
    """Each image's digest there. `place` is host[:port][/path]; options are skopeo's."""
    ensure(("skopeo",))
    digests = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, image in images.items():
            told = Path(folder, name)
            tag = image["name"].rpartition(":")[2]
            push(name, image, f"{place}/{name}:{tag}", f"--digestfile={told}", *options)
            digests[name] = told.read_text().strip()
    return digests


def push(name: str, image: dict[str, str], destination: str, *options: str) -> None:
    """One image as it was built; a base image by the digest that it has."""
    whole = name in images.ARCHIVES
    source = ["docker-archive:" + image["path"]] if whole else ["--preserve-digests", "oci:" + image["path"]]
    with step(f"pushed {name}"):
        run("skopeo", "--insecure-policy", "copy", "--quiet", *options, *source, f"docker://{destination}")


def values(place: str, digests: dict[str, str], *, plain: bool = False) -> dict[str, Any]:
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
            "read": f"http{'' if plain else 's'}://{place.partition('/')[0]}",
            "insecure": plain,
        },
    }


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("place", metavar="HOST[:PORT][/PATH]")
    parser.add_argument("--values", type=Path, default=Path("values-images.yaml"), metavar="FILE")
    parser.add_argument("--plain-http", action="store_true", help="the registry has no TLS")
    given = parser.parse_args(arguments)
    place, plain = given.place.rstrip("/"), given.plain_http
    try:
        digests = publish(images.build_all(), place, *(["--dest-tls-verify=false"] if plain else []))
    except ClusterError as error:
        say(f"error: {error}")
        return 1
    given.values.write_text(json.dumps(values(place, digests, plain=plain), indent=2) + "\n")  # which is YAML, too
    say(f"values: {given.values}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
