"""The stages, in order: source, check, build, run. Each looks at what was observed and says what it wants."""
