"""Generation turns a description in words into candidate code, and bounds what that may cost."""
