"""Show what a gate found, the same way wherever it comes from: the failing example in colour."""

from __future__ import annotations

import re

from kubectl_skill import output
from kubectl_skill.output import Color

MAX_LINES = 60
_COLORS: tuple[tuple[re.Pattern[str], Color], ...] = (
    (re.compile(r"\s+expected:"), Color.GREEN),
    (re.compile(r"\s+(got|differs|raised):"), Color.RED),
    (re.compile(r"example '"), Color.BOLD),
    (re.compile(r">\s+\d+ \|"), Color.YELLOW),
)


def write_finding(message: str, indent: str = "    ") -> None:
    """Write a gate's message below a line of ours, each of its lines indented: none passes for one of ours."""
    lines = output.clean(message).splitlines()
    for line in lines[:MAX_LINES]:
        color = next((color for pattern, color in _COLORS if pattern.match(line)), None)
        output.write_parts(indent, output.paint(line, color) if color is not None else output.clean(line))
    if len(lines) > MAX_LINES:
        output.write(f"{indent}… {len(lines) - MAX_LINES} more lines")
