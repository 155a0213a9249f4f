"""`kubectl skill`: a plugin of kubectl for the people who write, approve and run Skills."""
