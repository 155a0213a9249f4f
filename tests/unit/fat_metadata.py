"""Whoever may create an object can fill its metadata, as here, one field at a time."""

from __future__ import annotations

from typing import Any

FAT_METADATA: dict[str, Any] = {
    "labels": {f"x{n}/{'k' * 50}": "v" for n in range(10_000)},
    "annotations": {f"k{n}": "v" * 100 for n in range(2_400)},
    "ownerReferences": [{"kind": "ConfigMap", "name": "n", "uid": f"{n:036}"} for n in range(6_000)],
    "finalizers": [f"example.com/{n:050}" for n in range(10_000)],
}
