"""The language model of tests and demo."""
