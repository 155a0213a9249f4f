"""Everything that speaks to the API server. No other package imports the Kubernetes client."""
