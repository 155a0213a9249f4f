"""Attacks on the real cluster, one file for each kind; docs/security.md lists them."""

from __future__ import annotations

from tests.integration.conftest import cluster, namespace, operator

__all__ = ["cluster", "namespace", "operator"]  # fixtures, shared with the tests of tests/integration
