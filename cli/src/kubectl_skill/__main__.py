"""The start of `kubectl-skill`: it checks the version of Python, finds the compiled libraries, and runs the app."""

from __future__ import annotations

import os
import signal
import sys

MINIMUM = (3, 10)


def main() -> None:
    """Run the plugin, or complete words for kubectl where it was started by that name."""
    if sys.version_info < MINIMUM:
        found = ".".join(map(str, sys.version_info[:3]))
        sys.exit(f"error: kubectl skill needs Python 3.10 or later, and python3 is {found}")
    _use_compiled_parts()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # where the locale has no such letter
    from kubectl_skill import completion, output  # after what they are made of is there

    arguments = sys.argv[1:]
    by_kubectl = os.path.basename(sys.argv[0]) == completion.NAME
    if by_kubectl or arguments[:1] == ["__complete"]:
        output.write_parts(completion.complete(arguments if by_kubectl else arguments[1:]))
        sys.exit(0)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    from kubectl_skill.app import run

    sys.exit(run(arguments))


def _end(number: int, _frame: object) -> None:
    """End as the signal says, and stop every kubectl that was started on the way out."""
    sys.exit(128 + number)


def _use_compiled_parts() -> None:
    """Put the libraries that were compiled for this system and processor on the path, where the zipapp brings them."""
    site = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    parts = os.path.join(site, "compiled")
    if not os.path.isdir(parts):
        return
    machine = f"{sys.platform}-{os.uname().machine}"
    mine = os.path.join(parts, machine)
    if not os.path.isdir(mine):
        known = ", ".join(sorted(os.listdir(parts)))
        sys.exit(f"error: this kubectl-skill has no libraries for {machine}, but for {known}")
    sys.path.insert(0, mine)


if __name__ == "__main__":
    main()
