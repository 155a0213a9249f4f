"""`python3 -m skill_runtime serve | check | manifest`.

Every command imports what it needs and no more: the time until a skill answers is mostly the time of imports.
"""

from __future__ import annotations

import sys

from skill_runtime import process

USAGE = "usage: python3 -m skill_runtime serve | check | manifest"


def main(arguments: list[str]) -> int:
    """Run one command; its exit code."""
    match arguments:
        case ["serve"]:
            process.seclude()
            from skill_runtime import serve

            return serve.main()
        case ["check"]:
            process.seclude()  # before anything can be there to look
            from skill_runtime.check import main

            return main.main()
        case ["manifest"]:
            from skill_runtime import manifest

            return manifest.main()
        case _:
            sys.stderr.write(USAGE + "\n")
            return 64


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
