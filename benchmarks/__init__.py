"""Figures of the installed operator, as ratios of two things measured in turn in one run."""

from __future__ import annotations

import statistics


def show(values: list[float]) -> str:
    return f"median {statistics.median(values):.2f}  min {min(values):.2f}  max {max(values):.2f}"
