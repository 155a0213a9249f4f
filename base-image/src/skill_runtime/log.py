"""Log lines: one JSON object each, so that no text of a skill can pass for a line of ours.

Members are named as in the logs of gateway and controller.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def write(level: str, message: str, **fields: Any) -> None:
    """Write one line. JSON escapes every control character and everything beyond ASCII."""
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"
    nonempty = {name: value for name, value in fields.items() if value not in (None, "")}
    sys.stdout.write(json.dumps({"time": stamp, "level": level, "message": message, **nonempty}) + "\n")
    sys.stdout.flush()
