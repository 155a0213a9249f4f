"""Figures of the installed operator, as ratios of two things measured in turn in one run."""
