"""The command line of the runtime: `python3 -m skill_runtime serve | trial | check | manifest [REQUIREMENTS…]`.

Every command imports what it needs and no more: the time until a skill answers is mostly the time of imports.
"""

from __future__ import annotations

import sys

from skill_runtime import process

USAGE = "usage: python3 -m skill_runtime serve | trial | check | manifest [REQUIREMENTS…]"


def main(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    match arguments:
        case ["serve"]:
            process.harden()
            from skill_runtime import serve

            return serve.main()
        case ["trial"]:
            process.harden()  # before any process exists that could read this one
            from skill_runtime import trial

            return trial.main()
        case ["check"]:
            process.harden()  # before any process exists that could read this one
            from skill_runtime.check import main

            return main.main()
        case ["manifest", *requirements]:
            from skill_runtime import manifest

            return manifest.main(requirements)
        case _:
            sys.stderr.write(USAGE + "\n")
            return 64


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
