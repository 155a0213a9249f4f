"""Turns a capability described in words into safe, running software on Kubernetes."""

__version__ = "0.1.0"
