"""Reports about exceptions, and the flush of printed output: what leaves a skill's process besides results."""

from __future__ import annotations

import contextlib
import sys
from typing import Any


def describe(error: BaseException, path: str) -> dict[str, Any]:
    """Describe an exception in terms of the skill's own file: class names, message and line."""
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == path else None
    trace = error.__traceback__
    while trace:
        if trace.tb_frame.f_code.co_filename == path:
            line = trace.tb_lineno
        trace = trace.tb_next
    try:
        message = str(error.msg if isinstance(error, SyntaxError) else error)
    except Exception:  # noqa: BLE001 - __str__ is the skill's
        message = "(its text cannot be read)"
    names = [kind.__name__ for kind in type(error).__mro__ if kind not in (BaseException, object)]
    return {"types": [name[:100] for name in names[:16]], "message": message[:600], "line": line}


def flush_output() -> None:
    """Flush standard output and standard error, so that what was printed so far leaves this process."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # the skill may have put anything there
            stream.flush()
