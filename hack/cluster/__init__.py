"""A real one-node Kubernetes for tests and for the demo, on any Linux machine.

With a Docker engine it is kind. Without one, the node lives in network, mount, PID and UTS namespaces of this machine,
its components built from their Go modules. Either way: `python3 -m hack.cluster up`, standard library only.
"""
