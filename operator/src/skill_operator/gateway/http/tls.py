"""The certificate that the gateway shows: a mounted Secret, read again when it changes."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import ssl
from pathlib import Path

from skill_operator.observability import metrics

log = logging.getLogger(__name__)
CHECK_SECONDS = 10.0
NAMES = ("tls.crt", "tls.key")  # as in a Secret of type kubernetes.io/tls


class CertificateError(Exception):
    """There is none that can be used."""


class Certificate:
    """`context` serves all connections; each handshake gets the certificate of that moment."""

    def __init__(self, folder: Path) -> None:
        """Raises CertificateError."""
        self._folder = folder
        self._seen = self._digest()
        self._current = self._load()
        self.context = _context()
        self.context.sni_callback = self._choose
        metrics.record_certificate_load("loaded")

    async def keep(self) -> None:
        """Looks for a new one; never returns. One that cannot be used is left alone: the old one still is."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            self.check()

    def check(self) -> None:
        """A second look at what cannot be used would say the same, but it may be half written: so it is taken."""
        try:
            seen = self._digest()
            if seen == self._seen:
                return
            self._current = self._load()
        except CertificateError as error:
            metrics.record_certificate_load("failed")
            log.error("the new certificate cannot be used, the old one still is: %s", error)  # noqa: TRY400 - said
        else:
            self._seen = seen
            metrics.record_certificate_load("loaded")
            log.info("a new certificate is used")

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._current

    def _load(self) -> ssl.SSLContext:
        made = _context()
        certificate, key = (self._folder / name for name in NAMES)
        try:
            made.load_cert_chain(certificate, key, password=_no_password)
        except (OSError, ValueError) as error:  # SSLError is an OSError
            raise CertificateError(f"{certificate} and {key.name}: {error}") from error
        return made

    def _digest(self) -> bytes:
        try:
            return hashlib.sha256(b"\0".join((self._folder / name).read_bytes() for name in NAMES)).digest()
        except OSError as error:
            raise CertificateError(f"{error.filename} cannot be read: {error.strerror}") from error


def _context() -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.set_alpn_protocols(["http/1.1"])
    return made


def _no_password() -> str:
    """Without this OpenSSL would ask on a terminal."""
    raise ValueError("the key is encrypted")
