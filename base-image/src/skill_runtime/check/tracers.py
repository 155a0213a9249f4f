"""Tracers: what stands after the code of a candidate to have a call return which parts of the code run for it."""

from __future__ import annotations

from typing import Final

_FRAME = """

def run(input, *, _run=run):
    import sys
    found, positions = set(), dict()

    def trace(frame, event, argument):
        code = frame.f_code
        if code.co_filename != __file__:
            return None
        STEP
        return trace

    sys.settrace(trace)
    try:
        _run(input)
    except BaseException:
        pass
    finally:
        sys.settrace(None)
    return RESULT
"""


def _tracer(step: str, result: str) -> str:
    """Return a tracer that does `step` at each event of the code, and has `result` returned of what was `found`."""
    return _FRAME.replace("STEP", step).replace("RESULT", result)


LINES: Final = _tracer("found.add(frame.f_lineno)", "sorted(found)")
"""Has a call return the numbers of the lines that run."""
PLACES: Final = _tracer(
    """frame.f_trace_opcodes = True
        if code not in positions:
            positions[code] = list(code.co_positions())
        if event == "opcode":
            found.add(positions[code][frame.f_lasti // 2])""",
    "[list(place) for place in found if None not in place]",
)
"""Has a call return where the instructions stand that run: each place as two lines and two columns."""
