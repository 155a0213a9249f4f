"""Run each `make` target that a page names, in its shortest form, and print what it prints.

    python3 -m hack.check_docs [TARGET ...]

It needs the installed cluster. A page that names a target which is neither in RUNS nor in NOT_RUN fails it, so nothing
is documented that nobody runs.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from hack.cluster import binaries, engine
from hack.cluster.identity import CHECKOUT, cluster_name
from hack.cluster.packages import ensure
from hack.cluster.shell import ClusterError, say, succeeds, wait

PAGES = ("README.md", "CONTRIBUTING.md", "docs/**/*.md", "hack/**/*.md", "charts/**/*.md", "examples/**/*.md")
REGISTRY = "localhost:35000"
TIMEOUT_SECONDS = 420.0
RUNS: dict[str, tuple[str, ...]] = {
    "help": (),
    "generate": (),
    "release-notes": (),
    "docs": (),
    "cli": (),
    "cluster": (),
    "images": (),
    "install": (),
    "doctor": (),
    "demo": (),
    "bench": ("ROUNDS=1", "WAKES=2", "CALLS=200"),
    "bench-races": ("RACES=1", "SKILLS=2", "GATEWAYS=2", "KILL_EVERY=8", "ROUND_SECONDS=20"),
    "bench-soak": ("SECONDS=30",),
    "bench-relay": ("ROUNDS=1", "SECONDS=1", "STARTS=2"),
    "bench-search": ("SEARCHES=20",),
    "bench-gates": ("PROBLEMS=0:1", "EACH=1"),
    "bench-opinions": ("PROBLEMS=0:1", "EACH=1"),
    "bench-generation": ("LOOP_RUNS=5", "SKILLS=1"),
    "bench-model": ("TASKS=1",),
    "bench-replay": ("PROBLEMS=0:1", "EACH=1", "RUNS=50"),
    "publish": (f"TO={REGISTRY}/check", "OPTIONS=--plain-http --values=.cluster/values-images.yaml"),
}
"""Targets and their shortest settings, in the order in which they run."""
NOT_RUN: dict[str, str] = {
    "test": "CI runs it before this",
    "unit": "part of make test",
    "integration": "part of make test",
    "verify": "part of make test",
    "check-docs": "it is what runs here",
    "format": "it rewrites the checkout; make verify fails where it would change something",
    "down": "it ends the cluster that is in use; tests/integration/test_cluster.py ends a second one",
}
"""Targets that are not run here, and why."""
_COMMAND = re.compile(r"(?:[A-Z_]+=\S+ +)*make +([a-z][a-z-]*)")
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")


def documented(text: str) -> set[str]:
    """Return the targets that a page's code names, in blocks or spans; prose does not count."""
    blocks = _FENCE.findall(text)
    code = [line for block in blocks for line in block.splitlines()]
    code += _SPAN.findall(_FENCE.sub("", text))
    found = set[str]()
    for line in code:
        for part in re.split(r"&&|;|\|", line.partition(" #")[0]):
            if match := _COMMAND.match(part.strip().removeprefix("$ ")):
                found.add(match[1])
    return found


def pages() -> dict[str, set[str]]:
    """Return the pages of this checkout that name targets, each with its targets."""
    files = sorted({path for pattern in PAGES for path in CHECKOUT.glob(pattern)})
    found = {str(path.relative_to(CHECKOUT)): documented(path.read_text(encoding="utf-8")) for path in files}
    return {page: targets for page, targets in found.items() if targets}


def missing(named: Mapping[str, set[str]], makefile: str) -> list[str]:
    """Return a sentence for each target that a page names and the Makefile or the tables here do not have."""
    known = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    problems = []
    for page, targets in named.items():
        problems += [f"{page} names make {target}, which the Makefile does not have" for target in targets - known]
        rest = (targets & known) - RUNS.keys() - NOT_RUN.keys()
        problems += [f"{page} names make {target}; add it to RUNS or NOT_RUN in hack/check_docs.py" for target in rest]
    return sorted(problems)


@contextmanager
def registry() -> Iterator[None]:
    """Run a registry without TLS on this machine, for `make publish`."""
    with tempfile.TemporaryDirectory() as folder:
        config = {
            "version": 0.1,
            "http": {"addr": REGISTRY},
            "storage": {"filesystem": {"rootdirectory": folder}},
            "log": {"level": "error", "accesslog": {"disabled": True}},
        }
        path = Path(folder, "config.json")
        path.write_text(json.dumps(config))
        command = [str(binaries.path("registry")), "serve", str(path)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                wait("the registry", 20, lambda: succeeds("curl", "-sf", "--noproxy", "*", f"http://{REGISTRY}/v2/"))
                yield
            finally:
                process.terminate()


def run(target: str, environment: Mapping[str, str]) -> bool:
    """Run one target and print its output; return whether it succeeded."""
    command = ["make", "--no-print-directory", target, *RUNS[target]]
    say(f"\n$ {' '.join(command)}")
    began = time.monotonic()
    try:
        done = subprocess.run(
            command, cwd=CHECKOUT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=TIMEOUT_SECONDS, check=False,
        )  # fmt: skip
        output, failure = done.stdout, f"exit {done.returncode}" if done.returncode else ""
    except subprocess.TimeoutExpired as error:
        output = error.stdout.decode() if isinstance(error.stdout, bytes) else error.stdout or ""
        failure = f"not within {TIMEOUT_SECONDS:.0f} s"
    say(output.rstrip())
    say(f"-- {target}: {failure or 'ok'}, {time.monotonic() - began:.0f} s")
    return not failure


def check(targets: list[str]) -> list[str]:
    """Run these targets in order; return the names of those that failed."""
    name = cluster_name()
    environment = os.environ | {
        "KUBECONFIG": str(engine.kubeconfig(name)),
        "PATH": f"{engine.tools(name)}:{os.environ['PATH']}",
    }
    failed = []
    for target in targets:
        if target == "bench-relay":
            ensure(("nginx-light", "wrk"))
        if target == "publish":
            with registry():
                succeeded = run(target, environment)
        else:
            succeeded = run(target, environment)
        if not succeeded:
            failed.append(target)
    return failed


def main(arguments: list[str]) -> int:
    """Check the pages, then run what they name, or only these targets."""
    named = pages()
    problems = missing(named, (CHECKOUT / "Makefile").read_text(encoding="utf-8"))
    for problem in problems:
        say(f"error: {problem}")
    every = {target for targets in named.values() for target in targets}
    chosen = [target for target in RUNS if target in (arguments or every)]
    began = time.monotonic()
    try:
        failed = check(chosen)
    except ClusterError as error:
        say(f"error: {error}")
        return 1
    say("")
    for target in sorted(every & NOT_RUN.keys()):
        say(f"not run: make {target}: {NOT_RUN[target]}")
    seconds = time.monotonic() - began
    say(f"{len(chosen)} documented targets ran in {seconds:.0f} s; failed: {', '.join(failed) or 'none'}")
    return 1 if problems or failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
