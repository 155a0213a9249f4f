"""Access to skills: which callers may call, from which origins, and how often."""
