"""Labels of programs in a reply: the line before a block, which may say that another program replaces it."""

from __future__ import annotations

import re
from typing import Final

MAX_LABEL_CHARACTERS: Final = 200
_LINES_BACK: Final = 6
_OLD: Final = re.compile(
    r"\b(?:old|older|original|previous|earlier|first|initial|wrong|incorrect|broken|buggy|naive)"
    r" (?:version|code|attempt|draft|implementation|solution|file|approach|way|one|try)\b"
    r"|^(?:before|was|wrong|not like this|bad|previously|original|old)\b\W*$"
    r"|\b(?:do not|don't|never) (?:write|do|use|code)\b",
    re.IGNORECASE,
)
_NEW: Final = re.compile(
    r"\b(?:unlike|than|instead|now|new|replac\w+|compared|fix\w*|correct(?:ed)?|mend\w*|improv\w+|final|better)\b",
    re.IGNORECASE,
)
_HEADING: Final = re.compile(r"#{1,6} |\*\*|__|<summary>|=+ ")


def is_superseded(text: str, end: int) -> bool:
    """Return whether the line before a block, which begins at `end`, says that its code is an old or a wrong one.

    That is a heading, or words that end with a colon. Words that compare it with another program say it of the other.
    """
    lines = text[max(0, end - MAX_LABEL_CHARACTERS) : end].split("\n")[-_LINES_BACK:]
    label = next((line.strip() for line in reversed(lines) if line.strip()), "")
    is_label = label.endswith((":", ":**")) or _HEADING.match(label) is not None
    words = re.sub(r"<[^<>]*>|[*_#`]", "", label).strip()
    return is_label and _OLD.search(words) is not None and _NEW.search(words) is None
