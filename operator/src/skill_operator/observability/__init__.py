"""What people and Prometheus see of the two processes."""
