"""Make and read the gateway's CA and its serving certificate (RFC 5280): ECDSA P-256, for the gateway's names alone.

This is the only module that uses the package `cryptography`. Readers take any bytes: whoever may write the Secrets may
write nonsense into them.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network
from itertools import islice

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Certificate = x509.Certificate
CLOCK_SKEW = timedelta(hours=1)
"""So much earlier than now a certificate begins, for callers whose clocks are late."""
AUTHORITY_LIFE = timedelta(days=5 * 365)
SERVING_LIFE = timedelta(days=90)
CERTIFICATE_KEY, PRIVATE_KEY = "tls.crt", "tls.key"  # as in a Secret of type kubernetes.io/tls
MAX_CERTIFICATES_BYTES = 1 << 18  # nine CAs for as many and as long names as the settings allow
MAX_CERTIFICATES = 16
MAX_KEY_BYTES = 512  # a key on P-256 takes 241: one that takes long to check is not even parsed
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----")
_UNUSABLE = (
    AttributeError, LookupError, OverflowError, TypeError, ValueError, UnsupportedAlgorithm, x509.DuplicateExtension,
    x509.InvalidVersion, x509.UnsupportedGeneralNameType,
)  # fmt: skip
Extensions = list[tuple[x509.ExtensionType, bool]]


@dataclass(frozen=True)
class KeyPair:
    """KeyPair is a certificate with its private key. Its public key is on P-256, and all of it could be read."""

    certificate: Certificate
    key: ec.EllipticCurvePrivateKey

    def encode(self) -> dict[str, bytes]:
        """Return the data of a Secret of type kubernetes.io/tls."""
        key = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return {CERTIFICATE_KEY: encode_certificates([self.certificate]), PRIVATE_KEY: key}


def issue_authority(now: datetime, names: Iterable[str]) -> KeyPair:
    """Return a new CA, which clients believe for these names alone. Names are host names and IP addresses."""
    key = ec.generate_private_key(ec.SECP256R1())
    public_key = key.public_key()
    short = x509.SubjectKeyIdentifier.from_public_key(public_key).digest.hex()[:8]
    subject = _subject(f"skill-operator gateway CA {short}")  # two CAs of one bundle need two names
    end = now + AUTHORITY_LIFE
    return KeyPair(_sign(subject, key, now, end, (subject, key), _authority_extensions(public_key, names)), key)


def issue_serving(now: datetime, names: Iterable[str], authority: KeyPair) -> KeyPair:
    """Return a new certificate of a server for these names, with a key of its own."""
    key = ec.generate_private_key(ec.SECP256R1())
    extensions = _serving_extensions(key.public_key(), names, authority.certificate)
    end = min(now + SERVING_LIFE, authority.certificate.not_valid_after_utc)
    issuer = authority.certificate.subject, authority.key
    return KeyPair(_sign(_subject("skill-operator gateway"), key, now, end, issuer, extensions), key)


def is_authority_for(certificate: Certificate, names: Iterable[str]) -> bool:
    """Return whether it is a CA as `issue_authority` makes one for these very names."""
    return _life(certificate) <= AUTHORITY_LIFE + CLOCK_SKEW and _has_extensions(
        certificate, _authority_extensions(_public_key(certificate), names)
    )


def is_serving_for(certificate: Certificate, names: Iterable[str], authority: Certificate) -> bool:
    """Return whether it is a certificate as `issue_serving` makes one for these very names."""
    return _life(certificate) <= SERVING_LIFE + CLOCK_SKEW and _has_extensions(
        certificate, _serving_extensions(_public_key(certificate), names, authority)
    )


def is_issued_by(certificate: Certificate, authority: Certificate) -> bool:
    """Return whether the CA's name and key are those that signed the certificate."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, *_UNUSABLE):
        return False
    return True


def issued_at(certificate: Certificate) -> datetime:
    """Return when the certificate was made."""
    return certificate.not_valid_before_utc + CLOCK_SKEW


def renewal_time(certificate: Certificate) -> datetime:
    """Return when two thirds of the certificate's life are over."""
    return issued_at(certificate) + (certificate.not_valid_after_utc - issued_at(certificate)) * 2 / 3


def is_valid(certificate: Certificate, now: datetime) -> bool:
    """Return whether the certificate has begun and has not expired."""
    return certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc


def encode_certificates(certificates: Iterable[Certificate]) -> bytes:
    """Return the certificates as PEM, one after another."""
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def read_key_pair(secret: Mapping[str, object]) -> KeyPair | None:
    """Return the pair of a Secret's data, or None where it cannot be used: nothing of it is believed unread."""
    try:
        text = _decode(secret[PRIVATE_KEY], MAX_KEY_BYTES)
        (certificate,) = read_certificates(secret[CERTIFICATE_KEY])
        key = load_pem_private_key(text, password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != _public_key(certificate):
            return None
    except _UNUSABLE:
        return None
    return KeyPair(certificate, key)


def read_certificates(data: object) -> tuple[Certificate, ...]:
    """Return the certificates in base64 of PEM that can be used, in their order."""
    try:
        text = _decode(data, MAX_CERTIFICATES_BYTES)
    except _UNUSABLE:
        return ()
    return parse_certificates(text)


def parse_certificates(text: bytes) -> tuple[Certificate, ...]:
    """Return the certificates of a PEM text that can be used, in their order, of the first MAX_CERTIFICATES."""
    if len(text) > MAX_CERTIFICATES_BYTES:
        return ()
    found = (_parse(match[0]) for match in islice(_PEM.finditer(text), MAX_CERTIFICATES))
    return tuple(certificate for certificate in found if certificate is not None)


def _parse(text: bytes) -> Certificate | None:
    """Return the certificate, or None where any part that this module looks at cannot be read."""
    try:
        certificate = x509.load_pem_x509_certificate(text)
        _ = _life(certificate), _public_key(certificate), certificate.subject, certificate.issuer
        _ = [each.value for each in certificate.extensions]
    except _UNUSABLE:
        return None
    return certificate


def _decode(data: object, max_bytes: int) -> bytes:
    """Decode a value of a Secret's data. Raises TypeError or ValueError."""
    if not isinstance(data, str) or len(data) > max_bytes * 4 / 3 + 4:
        raise ValueError("not base64, or too long")
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error


def _public_key(certificate: Certificate) -> ec.EllipticCurvePublicKey:
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise TypeError("the key is not on P-256")
    return key


def _life(certificate: Certificate) -> timedelta:
    return certificate.not_valid_after_utc - certificate.not_valid_before_utc


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _sign(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: datetime,
    end: datetime,
    issuer: tuple[x509.Name, ec.EllipticCurvePrivateKey],
    extensions: Extensions,
) -> Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0])
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(end)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(issuer[1], hashes.SHA256())


def _authority_extensions(key: ec.EllipticCurvePublicKey, names: Iterable[str]) -> Extensions:
    return [
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (_key_usage(authority=True), True),
        (x509.SubjectKeyIdentifier.from_public_key(key), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(key), False),
        (_name_constraints(names), True),
    ]


def _serving_extensions(key: ec.EllipticCurvePublicKey, names: Iterable[str], authority: Certificate) -> Extensions:
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(_public_key(authority))
    return [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_key_usage(authority=False), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectAlternativeName(list(map(_general_name, names))), False),
        (x509.SubjectKeyIdentifier.from_public_key(key), False),
        (issuer, False),
    ]


def _has_extensions(certificate: Certificate, wanted: Extensions) -> bool:
    found = {each.oid: (each.value, each.critical) for each in certificate.extensions}
    return found == {value.oid: (value, critical) for value, critical in wanted}


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name_constraints(names: Iterable[str]) -> x509.NameConstraints:
    """Permit the names and what is below them. Without a permitted address all would be free, so all are denied."""
    permitted = [
        x509.IPAddress(ip_network(name.value)) if isinstance(name, x509.IPAddress) else name
        for name in map(_general_name, names)
    ]
    everywhere = [x509.IPAddress(ip_network("0.0.0.0/0")), x509.IPAddress(ip_network("::/0"))]
    has_addresses = any(isinstance(name, x509.IPAddress) for name in permitted)
    return x509.NameConstraints(permitted, None if has_addresses else everywhere)


def _general_name(name: str) -> x509.DNSName | x509.IPAddress:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
