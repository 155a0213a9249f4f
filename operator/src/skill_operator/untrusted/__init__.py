"""Make untrusted texts, JSON values and JSON Schemas safe: here, and nowhere else."""
