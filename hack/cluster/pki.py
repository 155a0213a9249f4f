"""Keys and certificates of one cluster, and the kubeconfigs made of them."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from hack.cluster.identity import NODE_NAME, Identity
from hack.cluster.shell import run

CLIENTS = {
    "admin": "/O=system:masters/CN=admin",
    "controllers": "/CN=system:kube-controller-manager",
    "scheduler": "/CN=system:kube-scheduler",
    "proxy": "/CN=system:kube-proxy",
    "node": f"/O=system:nodes/CN=system:node:{NODE_NAME}",
}
"""Who has a kubeconfig, and as whom the API server knows them."""
_DAYS = "30"
_EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


@dataclass(frozen=True)
class Pki:
    """Pki names the files of one cluster's certificate authority."""

    folder: Path

    def crt(self, name: str) -> Path:
        """Return the path of a certificate."""
        return self.folder / f"{name}.crt"

    def key(self, name: str) -> Path:
        """Return the path of the private key."""
        return self.folder / f"{name}.key"

    def kubeconfig(self, name: str) -> Path:
        """Return the kubeconfig of one of CLIENTS."""
        return self.folder / f"{name}.kubeconfig"

    @property
    def service_account_key(self) -> Path:
        """Return the public key with which the API server checks tokens."""
        return self.folder / "service-accounts.pub"


def create(cluster: Identity) -> Pki:
    """Make one authority, and a certificate for each component."""
    pki = Pki(cluster.state / "pki")
    pki.folder.mkdir(mode=0o700)
    run(
        "openssl",
        "req",
        "-x509",
        *_EC,
        "-keyout",
        pki.key("ca"),
        "-out",
        pki.crt("ca"),
        "-subj",
        "/CN=ca",
        "-days",
        _DAYS,
        "-addext",
        "keyUsage=critical,keyCertSign,cRLSign",  # Python 3.13 refuses an authority without it
    )
    api_names = ",".join(
        [f"IP:{address}" for address in ("127.0.0.1", cluster.node, cluster.api_service)]
        + [f"DNS:{name}" for name in ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")]
        + ["DNS:kubernetes.default.svc.cluster.local"]
    )
    certificates = {
        **{name: (subject, "") for name, subject in CLIENTS.items()},
        "apiserver-kubelet": ("/O=system:masters/CN=apiserver-kubelet-client", ""),
        "front-proxy": ("/CN=front-proxy", ""),
        "apiserver": ("/CN=kube-apiserver", api_names),
        "kubelet": (f"/CN={NODE_NAME}", f"IP:{cluster.node},DNS:{NODE_NAME}"),
    }
    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(_sign, pki, name, *what) for name, what in certificates.items()]
        done.append(pool.submit(_service_account_keys, pki))
        for each in done:
            each.result()
    for name in CLIENTS:
        pki.kubeconfig(name).write_text(_kubeconfig(pki, cluster, name))
        pki.kubeconfig(name).chmod(0o600)
    return pki


def _sign(pki: Pki, name: str, subject: str, alternative_names: str) -> None:
    request, extensions = pki.folder / f"{name}.csr", pki.folder / f"{name}.ext"
    extensions.write_text(
        "authorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\nkeyUsage=critical,digitalSignature\n"
        "extendedKeyUsage=clientAuth,serverAuth\n"
        + (f"subjectAltName={alternative_names}\n" if alternative_names else "")
    )
    run("openssl", "req", *_EC, "-keyout", pki.key(name), "-out", request, "-subj", subject)
    authority = ("-CA", pki.crt("ca"), "-CAkey", pki.key("ca"))
    run(
        "openssl",
        "x509",
        "-req",
        "-in",
        request,
        *authority,
        "-days",
        _DAYS,
        "-extfile",
        extensions,
        "-out",
        pki.crt(name),
    )
    request.unlink()
    extensions.unlink()


def _service_account_keys(pki: Pki) -> None:
    run("openssl", "genrsa", "-out", pki.key("service-accounts"), "2048")
    run("openssl", "rsa", "-in", pki.key("service-accounts"), "-pubout", "-out", pki.service_account_key)


def _kubeconfig(pki: Pki, cluster: Identity, user: str) -> str:
    def data(path: Path) -> str:
        return base64.b64encode(path.read_bytes()).decode()

    server = {"server": cluster.api, "certificate-authority-data": data(pki.crt("ca"))}
    credentials = {"client-certificate-data": data(pki.crt(user)), "client-key-data": data(pki.key(user))}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": cluster.name,
            "clusters": [{"name": cluster.name, "cluster": server}],
            "contexts": [{"name": cluster.name, "context": {"cluster": cluster.name, "user": user}}],
            "users": [{"name": user, "user": credentials}],
        },
        indent=1,
    )
