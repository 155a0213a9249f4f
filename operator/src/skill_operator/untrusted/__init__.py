"""Bytes of strangers: texts, JSON values and JSON Schemas are made safe here, and nowhere else."""
