"""Push this checkout's images to a registry of yours, and write the chart's values that name them.

    python3 -m hack.publish registry.example/team      # make publish TO=registry.example/team

Log in to the registry first, with `docker login` or `skopeo login`.
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


def publish(built: dict[str, dict[str, str]], place: str, *options: str) -> dict[str, str]:
    """Push the images to `place`, which is host[:port][/path], and return each one's digest there.

    The registry there has the base images itself, so that nothing is seeded. The options are skopeo's.
    """
    ensure(("skopeo",))
    digests = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, image in built.items():
            if name == images.BASES:
                continue
            digest_file = Path(folder, name)
            tag = image["name"].rpartition(":")[2]
            push(name, image, f"{place}/{name}:{tag}", f"--digestfile={digest_file}", *options)
            digests[name] = digest_file.read_text().strip()
    return digests


def push(name: str, image: dict[str, str], destination: str, *options: str) -> None:
    """Push one image as it was built; a base image keeps its digest."""
    archive = name in images.ARCHIVES
    source = ["docker-archive:" + image["path"]] if archive else ["--preserve-digests", "oci:" + image["path"]]
    with step(f"pushed {name}"):
        run("skopeo", "--insecure-policy", "copy", "--quiet", *options, *source, f"docker://{destination}")


def values(place: str, digests: dict[str, str], *, plain: bool = False) -> dict[str, Any]:
    """Return the chart's values for these images.

    Builds go to the same registry, since each adds a layer to one of these images.
    """

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
    """Build and push the images; write the values."""
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
