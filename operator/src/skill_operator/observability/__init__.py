"""Make the two processes observable: logs, metrics and health checks."""
