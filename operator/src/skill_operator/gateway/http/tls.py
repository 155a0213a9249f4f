"""The gateway's TLS certificate: a mounted Secret of type kubernetes.io/tls, read again when it changes."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import ssl
from pathlib import Path

from skill_operator.observability import metrics

log = logging.getLogger(__name__)
CHECK_SECONDS = 10.0
FILE_NAMES = ("tls.crt", "tls.key")  # as in a Secret of type kubernetes.io/tls


class CertificateError(Exception):
    """CertificateError says why the certificate or its key cannot be used."""


class Certificate:
    """Certificate serves all connections through `context`; each handshake gets the certificate of that moment."""

    def __init__(self, folder: Path) -> None:
        """Load the certificate. Raises CertificateError where it cannot be used."""
        self._folder = folder
        self._loaded_digest = self._digest()
        self._current = self._load()
        self.context = _context()
        self.context.sni_callback = self._choose
        metrics.record_certificate_load("loaded")

    async def watch(self) -> None:
        """Reload the certificate when it changes; never returns. The old one stays where the new one cannot be used."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            self.reload()

    def reload(self) -> None:
        """Load the certificate if its files have changed.

        Files that cannot be used are tried again at each check: they may be half written.
        """
        try:
            digest = self._digest()
            if digest == self._loaded_digest:
                return
            self._current = self._load()
        except CertificateError as error:
            metrics.record_certificate_load("failed")
            log.error("the new certificate cannot be used, the old one still is: %s", error)  # noqa: TRY400 - said
        else:
            self._loaded_digest = digest
            metrics.record_certificate_load("loaded")
            log.info("a new certificate is used")

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._current

    def _load(self) -> ssl.SSLContext:
        context = _context()
        certificate, key = (self._folder / name for name in FILE_NAMES)
        try:
            context.load_cert_chain(certificate, key, password=_no_password)
        except (OSError, ValueError) as error:  # SSLError is an OSError
            raise CertificateError(f"{certificate} and {key.name}: {error}") from error
        return context

    def _digest(self) -> bytes:
        try:
            return hashlib.sha256(b"\0".join((self._folder / name).read_bytes() for name in FILE_NAMES)).digest()
        except OSError as error:
            raise CertificateError(f"{error.filename} cannot be read: {error.strerror}") from error


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _no_password() -> str:
    """Refuse an encrypted key: without this, OpenSSL would ask on a terminal."""
    raise ValueError("the key is encrypted")
