"""The check of a candidate: gates, cheapest first, and a signed report."""
