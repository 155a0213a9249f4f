"""The pods behind the gateway: which there are, connections to them, waking them, and their use."""
