"""Write the configuration and command lines of Kubernetes and containerd."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hack.cluster import binaries
from hack.cluster.identity import NODE_NAME, Identity
from hack.cluster.node import Node
from hack.cluster.pki import Pki
from hack.cluster.shell import wait

PAUSE_IMAGE = "localhost/pause:1"
_LOOPBACK = "127.0.0.1"
_ETCD = f"{_LOOPBACK}:2379"


@dataclass(frozen=True)
class Components:
    """Components are the processes of one node."""

    cluster: Identity
    node: Node
    pki: Pki

    def configure(self) -> None:
        """Write what the components read at their start."""
        for folder in ("etcd", "kubelet", "cni", "bin"):
            (self._state / folder).mkdir()
        programs = {name: binaries.path(name) for name in binaries.NODE}
        binaries.link(self._state / "bin", programs)
        (self._state / "resolv.conf").write_text("nameserver 198.18.0.2\n")
        (self._state / "containerd.toml").write_text(self._containerd())
        self._write_json("cni/10-pods.conflist", self._pod_network())
        self._write_json("kubelet.json", self._kubelet())
        self._write_json("proxy.json", self._proxy())
        self._write_json("audit.json", self._audit())
        self.trust()

    def trust(self, *issuers: dict[str, Any]) -> None:
        """Have the API server trust the tokens of these issuers beside its own.

        Each is a JWTAuthenticator of an AuthenticationConfiguration, which the API server reads anew when it changes.
        """
        kind = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration"}
        self._write_json("authentication.draft", kind | {"jwt": issuers})
        (self._state / "authentication.draft").rename(self._authentication)

    def start_runtime(self) -> None:
        """Start etcd, containerd and the API server, which need nobody else."""
        self.start("containerd")
        self.start("etcd")
        wait(
            "etcd", 30, lambda: _ETCD in self.node.run("ss", "-Hltn")
        )  # refused once, the API server waits for seconds
        self.start("apiserver")

    def start_rest(self) -> None:
        """Start those that need the API server."""
        for name in ("controllers", "scheduler", "kubelet", "proxy"):
            self.start(name)

    def start(self, name: str) -> None:
        """Start one of them by its name."""
        if name == "apiserver" and not self._authentication.exists():  # of a cluster that an earlier version made
            self.trust()
        self.node.start(name, *self.commands()[name])

    def commands(self) -> dict[str, list[str]]:
        """Return the command line of each component."""
        kube, state, pki = f"{self._state}/bin/kube", self._state, self.pki
        path = f"PATH={state}/bin:{os.environ['PATH']}"
        return {
            "etcd": [kube, "etcd", f"{state}/etcd"],
            "containerd": ["env", path, f"{state}/bin/containerd", "--config", f"{state}/containerd.toml"],
            "apiserver": [kube, "kube-apiserver", *self._apiserver()],
            "controllers": [
                *(kube, "kube-controller-manager", *self._as("controllers"), "--use-service-account-credentials"),
                f"--service-account-private-key-file={pki.key('service-accounts')}",
                f"--root-ca-file={pki.crt('ca')}",
                f"--cluster-signing-cert-file={pki.crt('ca')}",
                f"--cluster-signing-key-file={pki.key('ca')}",
                "--allocate-node-cidrs",
                f"--cluster-cidr={self.cluster.pods}",
                f"--service-cluster-ip-range={self.cluster.services}",
            ],
            "scheduler": [kube, "kube-scheduler", *self._as("scheduler")],
            "kubelet": [
                *(kube, "kubelet", f"--config={state}/kubelet.json", f"--kubeconfig={pki.kubeconfig('node')}"),
                *(f"--root-dir={state}/kubelet", f"--hostname-override={NODE_NAME}", f"--node-ip={self.cluster.node}"),
            ],
            "proxy": [kube, "kube-proxy", f"--config={state}/proxy.json"],
            "netpol": [f"{state}/bin/netpol", f"--kubeconfig={pki.kubeconfig('admin')}", f"--node={NODE_NAME}"],
        }

    @property
    def _state(self) -> Path:
        return self.cluster.state

    @property
    def _authentication(self) -> Path:
        return self._state / "authentication.json"

    def _as(self, name: str) -> list[str]:
        config = self.pki.kubeconfig(name)
        files = (f"--{use}kubeconfig={config}" for use in ("", "authentication-", "authorization-"))
        unthrottled = ("--kube-api-qps=500", "--kube-api-burst=1000")  # the defaults add seconds to the start
        return [*files, *unthrottled, "--leader-elect=false", f"--bind-address={_LOOPBACK}"]

    def _apiserver(self) -> list[str]:
        pki = self.pki
        return [
            f"--etcd-servers=http://{_ETCD}",
            *("--bind-address=0.0.0.0", "--secure-port=6443", f"--advertise-address={self.cluster.node}"),
            *(f"--tls-cert-file={pki.crt('apiserver')}", f"--tls-private-key-file={pki.key('apiserver')}"),
            *(f"--client-ca-file={pki.crt('ca')}", "--authorization-mode=Node,RBAC", "--allow-privileged=true"),
            "--enable-admission-plugins=NodeRestriction",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={pki.service_account_key}",
            f"--service-account-signing-key-file={pki.key('service-accounts')}",
            f"--authentication-config={self._authentication}",
            f"--service-cluster-ip-range={self.cluster.services}",
            f"--audit-policy-file={self._state}/audit.json",
            *(f"--audit-log-path={self._state}/logs/audit.log", "--audit-log-maxsize=100", "--audit-log-maxbackup=3"),
            f"--kubelet-client-certificate={pki.crt('apiserver-kubelet')}",
            f"--kubelet-client-key={pki.key('apiserver-kubelet')}",
            f"--kubelet-certificate-authority={pki.crt('ca')}",
            "--kubelet-preferred-address-types=InternalIP,Hostname",
            f"--requestheader-client-ca-file={pki.crt('ca')}",
            "--requestheader-allowed-names=front-proxy",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={pki.crt('front-proxy')}",
            f"--proxy-client-key-file={pki.key('front-proxy')}",
        ]

    def _containerd(self) -> str:
        # restrict_oom_score_adj: where root lacks CAP_SYS_RESOURCE, no pod starts without it.
        return f"""version = 3
root = "{self._state}/containerd"
state = "/run/containerd"
[plugins."io.containerd.internal.v1.opt"]
  path = "{self._state}/opt"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{PAUSE_IMAGE}"
[plugins."io.containerd.cri.v1.runtime"]
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      BinaryName = "{self._state}/bin/runc"
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "{self._state}/cni"
"""

    def _pod_network(self) -> dict[str, Any]:
        addresses = {
            "type": "host-local",
            "ranges": [[{"subnet": str(self.cluster.pods)}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": "/run/cni-addresses",
        }
        bridge = {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "hairpinMode": True,
            "ipMasq": True,
            "ipam": addresses,
        }
        ports = {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True}
        return {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge, ports]}

    def _kubelet(self) -> dict[str, Any]:
        pki = self.pki
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(pki.crt("ca"))},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(pki.crt("kubelet")),
            "tlsPrivateKeyFile": str(pki.key("kubelet")),
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            "volumePluginDir": str(self._state / "volume-plugins"),
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self.cluster.cgroup}",
            "enforceNodeAllocatable": ["pods"],
            "failCgroupV1": False,
            "failSwapOn": False,
            "syncFrequency": "10s",  # a changed Secret is in its pods sooner than within the default minute
            "clusterDNS": [str(self.cluster.dns_service)],
            "clusterDomain": "cluster.local",
            "resolvConf": str(self._state / "resolv.conf"),
            "serializeImagePulls": False,
            "imageGCHighThresholdPercent": 100,
            "evictionHard": {
                "memory.available": "100Mi",
                **dict.fromkeys(("nodefs.available", "nodefs.inodesFree", "imagefs.available"), "0%"),
            },
        }

    def _audit(self) -> dict[str, Any]:
        """Return an audit policy that logs the requests of service accounts, except those of Kubernetes itself.

        A test compares the log with their rights.
        """
        return {
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "omitStages": ["RequestReceived", "ResponseStarted"],
            "rules": [
                {"level": "None", "userGroups": ["system:serviceaccounts:kube-system"]},
                {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
                {"level": "None"},
            ],
        }

    def _proxy(self) -> dict[str, Any]:
        return {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "iptables",  # as kind: the one mode that serves NodePorts on 127.0.0.1
            "iptables": {"localhostNodePorts": True, "minSyncPeriod": "100ms"},
            "clusterCIDR": str(self.cluster.pods),
            "hostnameOverride": NODE_NAME,
            "clientConnection": {"kubeconfig": str(self.pki.kubeconfig("proxy"))},
            "bindAddress": "0.0.0.0",
            "conntrack": {  # the node may not change the machine's table
                **dict.fromkeys(("maxPerCore", "min"), 0),
                **dict.fromkeys(("tcpEstablishedTimeout", "tcpCloseWaitTimeout"), "0s"),
            },
        }

    def _write_json(self, name: str, content: dict[str, Any]) -> None:
        (self._state / name).write_text(json.dumps(content, indent=1))
