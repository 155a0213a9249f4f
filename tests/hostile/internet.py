"""The internet as the egress proxy meets it: a name server that says what a test wants, and web servers behind it."""

from __future__ import annotations

import json
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from hack.cluster import engine
from hack.cluster.access import Cluster
from hack.cluster.shell import run, wait

API, OTHER = "203.0.113.10", "198.51.100.10"
TLS, PLAIN = (443, 8443), (80, 8080)
ZONE = "example.test"

PROGRAM = r'''
import http.server, itertools, json, socket, ssl, struct, sys, tempfile, threading

told = json.loads(sys.argv[1])
asked = {}


def say(**what):
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def answers(name, kind):
    """A list of lists is told in turn: each query for IPv4 gets the next one."""
    found = told["names"].get(name)
    if found and isinstance(found[0], list):
        if kind == 1:
            asked[name] = asked.get(name, -1) + 1
        found = found[max(0, asked.get(name, 0)) % len(found)]
    family = socket.AF_INET if kind == 1 else socket.AF_INET6
    return found, [socket.inet_pton(family, a) for a in found or () if (":" in a) == (kind == 28)]


def names():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((told["api"], 53))
        while True:
            query, client = server.recvfrom(512)
            at, labels = 12, []
            while query[at]:
                labels.append(query[at + 1 : at + 1 + query[at]].decode())
                at += query[at] + 1
            kind, name = struct.unpack(">H", query[at + 1 : at + 3])[0], ".".join(labels).lower()
            found, packed = answers(name, kind) if kind in (1, 28) else (told["names"].get(name), [])
            head = query[:2] + struct.pack(">HHHHH", 0x8580 | (0 if found else 3), 1, len(packed), 0, 0)
            body = b"".join(b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 0, len(a)) + a for a in packed)
            say(query=name, kind=kind)
            server.sendto(head + query[12 : at + 5] + body, client)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        sni = getattr(self.connection, "asked_for", None)
        say(at=self.server.at, path=self.path, host=self.headers.get_all("Host"), sni=sni, headers=dict(self.headers))
        moved = self.path.partition("?to=")[2]
        self.send_response(302 if moved else 200)
        if moved:
            self.send_header("Location", moved)
        body = f"{self.server.at} {self.path}".encode()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 64

    def get_request(self):
        connection, client = self.socket.accept()
        say(at=self.at, connected=True)
        return connection, client

    def finish_request(self, request, client):
        if self.tls:
            request = self.tls.wrap_socket(request, server_side=True)
        super().finish_request(request, client)

    def handle_error(self, *_):
        pass


def noted(connection, name, context):
    connection.asked_for = name


with tempfile.NamedTemporaryFile("w") as file:
    file.write(told["certificate"])
    file.flush()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(file.name)
tls.sni_callback = noted
for address in (told["api"], told["other"]):
    for port in told["tls"] + told["plain"]:
        server = Server((address, port), Handler)
        server.at, server.tls = f"{address}:{port}", tls if port in told["tls"] else None
        threading.Thread(target=server.serve_forever, daemon=True).start()
threading.Thread(target=names, daemon=True).start()
sys.stdin.read()
'''


class Internet:
    """What came in so far, in order."""

    def __init__(self, certificate: str) -> None:
        self.certificate = certificate
        self._seen: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    def follow(self, lines: Iterator[str]) -> None:
        for line in lines:
            with self._lock:
                self._seen.append(json.loads(line))

    def since(self, mark: int) -> list[dict[str, Any]]:
        with self._lock:
            return self._seen[mark:]

    def mark(self) -> int:
        with self._lock:
            return len(self._seen)

    def watch(self) -> Watched:
        return Watched(self)


class Watched:
    """What comes in while a test looks."""

    def __init__(self, internet: Internet) -> None:
        self._internet, self._mark = internet, 0

    def __enter__(self) -> Self:
        self._mark = self._internet.mark()
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def requests(self) -> list[dict[str, Any]]:
        return [one for one in self._internet.since(self._mark) if "path" in one]

    @property
    def connections(self) -> list[str]:
        return [one["at"] for one in self._internet.since(self._mark) if "connected" in one]

    @property
    def queries(self) -> list[str]:
        return [one["query"] for one in self._internet.since(self._mark) if "query" in one]


@contextmanager
def internet(cluster: Cluster, names: dict[str, Any]) -> Iterator[Internet]:
    """The two hosts of the internet, and names under ZONE (`names` may be changed by no one) for the cluster's DNS."""
    key, chain = certificate("api." + ZONE, "other." + ZONE)
    told = {"names": names, "api": API, "other": OTHER, "tls": TLS, "plain": PLAIN, "certificate": key + chain}
    command = engine.on_internet(cluster.engine, "python3", "-c", PROGRAM, json.dumps(told))
    made = Internet(chain)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        thread = threading.Thread(target=made.follow, args=(iter(process.stdout.readline, ""),), daemon=True)
        thread.start()
        try:
            listens = engine.on_internet(cluster.engine, "ss", "-Hlntu", f"src {API}")
            wait("the internet", 60, lambda: run(*listens).count(API) >= len(TLS) + len(PLAIN) + 1)
            with delegated(cluster):
                yield made
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.kill()


@contextmanager
def delegated(cluster: Cluster) -> Iterator[None]:
    """The cluster's DNS asks the internet's name server about ZONE, and keeps no answer."""
    before = cluster.get("-n", "kube-system", "configmap", "coredns")["data"]["Corefile"]
    before = before.partition(f"\n{ZONE}:53 ")[0]  # what a run that was killed has left
    _serve(cluster, f"{before}\n{ZONE}:53 {{\n    errors\n    forward . {API}\n}}\n")
    try:
        yield
    finally:
        _serve(cluster, before)


def _serve(cluster: Cluster, corefile: str) -> None:
    patch = json.dumps({"data": {"Corefile": corefile}})
    cluster.kubectl("-n", "kube-system", "patch", "configmap", "coredns", "--type=merge", "-p", patch)
    cluster.kubectl("-n", "kube-system", "rollout", "restart", "deployment/coredns")
    cluster.kubectl("-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=120s")


def certificate(*names: str) -> tuple[str, str]:
    """A key and its own certificate for these names."""
    with tempfile.TemporaryDirectory() as folder:
        key, chain = Path(folder, "key"), Path(folder, "chain")
        san = "subjectAltName=" + ",".join(f"DNS:{name}" for name in names)
        run(
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", "/CN=internet", "-addext", san, "-keyout", key, "-out", chain,
        )  # fmt: skip
        return key.read_text(), chain.read_text()
