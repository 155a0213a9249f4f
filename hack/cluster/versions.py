"""Pin every version that no `go/*/go.mod` pins."""

from __future__ import annotations

KUBERNETES = "1.36.4"
"""As in go/kube/go.mod, and the same minor as KIND_NODE."""

KIND = "0.33.0"
"""The release of kind that KIND_NODE was built for."""
KIND_NODE = "kindest/node:v1.36.4@sha256:099e049362a1526b2db71494e1947aae99bd16290d7c895f2b7ea312e3cbfaed"
"""As in kind-config.yaml."""

GO = (1, 26)
"""The oldest Go toolchain that builds all of go/*."""

DEBIAN = "trixie"
PYTHON = "3.13"
"""What DEBIAN's python3 is: the parent of the project's images where no registry has one."""
