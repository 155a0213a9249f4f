"""The page for people at /ui: server-rendered HTML, which shows Skills and takes calls and decisions."""
