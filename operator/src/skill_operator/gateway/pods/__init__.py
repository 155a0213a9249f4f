"""The pods behind the gateway: a directory of them, connections to them, their activation and their use."""
