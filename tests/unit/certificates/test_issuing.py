"""What is in the certificates, which clients believe them, and which bytes are believed to be some."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from skill_operator.certificates import issuing
from skill_operator.certificates.issuing import KeyPair, issue_authority, issue_serving
from tests.unit.certificates.samples import MORE_NAMES, NAMES, NOW, b64

BOTH = pytest.mark.parametrize("names", [NAMES, MORE_NAMES], ids=["service", "more"])


def extension(certificate: x509.Certificate, kind: Any) -> Any:
    return certificate.extensions.get_extension_for_class(kind)


@BOTH
def test_the_ca_signs_for_these_names_alone(names: tuple[str, ...]) -> None:
    certificate = issue_authority(NOW, names).certificate
    assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)
    assert certificate.public_key().curve.name == "secp256r1"  # type: ignore[union-attr]
    basic, usage = extension(certificate, x509.BasicConstraints), extension(certificate, x509.KeyUsage)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)
    assert (usage.critical, usage.value.key_cert_sign, usage.value.digital_signature) == (True, True, False)
    constraints = extension(certificate, x509.NameConstraints)
    assert constraints.critical
    permitted = [str(name.value) for name in constraints.value.permitted_subtrees]
    assert permitted == [n if n[0] not in "1f" else n + ("/128" if ":" in n else "/32") for n in names]
    excluded = [str(name.value) for name in constraints.value.excluded_subtrees or ()]
    assert excluded == (["0.0.0.0/0", "::/0"] if names == NAMES else [])
    identifier = extension(certificate, x509.SubjectKeyIdentifier).value.digest
    assert extension(certificate, x509.AuthorityKeyIdentifier).value.key_identifier == identifier
    assert certificate.not_valid_before_utc == NOW - timedelta(hours=1)
    assert issuing.is_authority_for(certificate, names)
    assert issuing.is_issued_by(certificate, certificate)


@BOTH
def test_the_serving_certificate_serves_and_does_no_more(names: tuple[str, ...]) -> None:
    authority = issue_authority(NOW, names)
    pair = issue_serving(NOW, names, authority)
    certificate = pair.certificate
    alternative = extension(certificate, x509.SubjectAlternativeName).value
    assert [*alternative.get_values_for_type(x509.DNSName), *alternative.get_values_for_type(x509.IPAddress)] == [
        *(n for n in names if n[0] not in "1f"),
        *(ip_address(n) for n in names if n[0] in "1f"),
    ]
    assert list(extension(certificate, x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.SERVER_AUTH]
    usage = extension(certificate, x509.KeyUsage)
    assert (usage.critical, usage.value.digital_signature, usage.value.key_cert_sign) == (True, True, False)
    basic = extension(certificate, x509.BasicConstraints)
    assert (basic.critical, basic.value.ca) == (True, False)
    issuer = extension(authority.certificate, x509.SubjectKeyIdentifier).value.digest
    assert extension(certificate, x509.AuthorityKeyIdentifier).value.key_identifier == issuer
    assert certificate.not_valid_before_utc == NOW - timedelta(hours=1)
    assert certificate.not_valid_after_utc == NOW + timedelta(days=90)
    assert issuing.renewal_time(certificate) == NOW + timedelta(days=60)
    assert issuing.is_serving_for(certificate, names, authority.certificate)
    assert issuing.is_issued_by(certificate, authority.certificate)
    assert pair.key != authority.key


def test_it_never_outlives_its_ca() -> None:
    authority = issue_authority(NOW - timedelta(days=5 * 365 - 10), NAMES)
    assert issue_serving(NOW, NAMES, authority).certificate.not_valid_after_utc == NOW + timedelta(days=10)


def test_no_two_are_alike() -> None:
    pairs = [issue_authority(NOW, NAMES) for _ in range(3)]
    assert len({p.certificate.serial_number for p in pairs}) == len({p.certificate.subject for p in pairs}) == 3
    assert not issuing.is_issued_by(pairs[0].certificate, pairs[1].certificate)


def test_one_name_more_or_less_or_elsewhere_is_another_certificate() -> None:
    authority = issue_authority(NOW, MORE_NAMES)
    serving = issue_serving(NOW, MORE_NAMES, authority).certificate
    others = [MORE_NAMES[:n] + MORE_NAMES[n + 1 :] for n in range(len(MORE_NAMES))] + [(*MORE_NAMES, "more.example")]
    for names in others:
        assert not issuing.is_authority_for(authority.certificate, names)
        assert not issuing.is_serving_for(serving, names, authority.certificate)
    assert not issuing.is_serving_for(serving, MORE_NAMES, issue_authority(NOW, MORE_NAMES).certificate)


def shakes_hands(folder: Path, trusted: bytes, pair: KeyPair, name: str) -> bool:
    """Whether a strict client that trusts these CAs takes the pair for the server of this name."""
    client = ssl.create_default_context(cadata=trusted.decode())
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    files = {file: folder / file for file in ("tls.crt", "tls.key")}
    for file, path in files.items():
        path.write_bytes(pair.encode()[file])
    server.load_cert_chain(files["tls.crt"], files["tls.key"])
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = client.wrap_bio(to_client, to_server, server_hostname=name), server.wrap_bio(to_server, to_client, True)
    try:
        for end in ends * 3:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    except ssl.SSLCertVerificationError:
        return False
    return ends[0].version() is not None


@BOTH
def test_strict_clients_believe_each_name_and_no_other(names: tuple[str, ...], tmp_path: Path) -> None:
    now = datetime.now(UTC)
    authority = issue_authority(now, names)
    pair = issue_serving(now, names, authority)
    trusted = issuing.encode_certificates([issue_authority(now, names).certificate, authority.certificate])
    for name in names:
        assert shakes_hands(tmp_path, trusted, pair, name), name
    for name in ("localhost", "127.0.0.1", "kubernetes.default.svc", f"x.{NAMES[2]}"):
        assert not shakes_hands(tmp_path, trusted, pair, name), name
    other = issuing.encode_certificates([issue_authority(now, names).certificate])
    assert not shakes_hands(tmp_path, other, pair, NAMES[0])


@BOTH
@pytest.mark.parametrize("name", ["kubernetes.default.svc", "bank.example", "10.1.2.4", "fd00::2", "svc"])
def test_a_stolen_ca_is_of_no_use_for_other_names(name: str, names: tuple[str, ...], tmp_path: Path) -> None:
    now = datetime.now(UTC)
    authority = issue_authority(now, names)
    trusted = issuing.encode_certificates([authority.certificate])
    assert not shakes_hands(tmp_path, trusted, issue_serving(now, [name], authority), name)
    below = KeyPair(issue_authority(now, [name]).certificate, ec.generate_private_key(ec.SECP256R1()))
    assert not shakes_hands(tmp_path, trusted, issue_serving(now, [name], below), name)


def built(key: Any, *extensions: x509.ExtensionType, days: int = 1) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(NOW).not_valid_after(NOW + timedelta(days=days))
    for each in extensions:
        builder = builder.add_extension(each, critical=False)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(Encoding.PEM)


def pem(key: Any, encryption: Any = None) -> bytes:
    raw: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())
    return raw


def hostile_data() -> Iterator[tuple[str, Any]]:
    """Data of a Secret that must not be taken for a pair; each with what is wrong with it."""
    good = issue_serving(NOW, NAMES, issue_authority(NOW, NAMES)).encode()
    certificate, key = good["tls.crt"], good["tls.key"]
    yield from ((f"nothing but {[*data]}", data) for data in ({}, {"tls.crt": b64(certificate)}, {"tls.key": b64(key)}))
    for value in (None, 1, 1.5, True, [], {}, [b64(key)], "", "====", "\ud800", "A" * 9, "A" * (1 << 20)):
        yield f"key: {str(value)[:20]!a}", {"tls.crt": b64(certificate), "tls.key": value}
        yield f"certificate: {str(value)[:20]!a}", {"tls.crt": value, "tls.key": b64(key)}
    raws = {
        "NUL": b"\0" * 99,
        "no PEM": b"\xff\xfe" * 99,
        "two": certificate * 2,
        "the key": key,
        "empty PEM": b"-----BEGIN CERTIFICATE-----\n\n-----END CERTIFICATE-----\n",
        "endless begins": b"-----BEGIN CERTIFICATE-----" * 1000,
        "cut": certificate[:-40],
        "not DER": b"-----BEGIN CERTIFICATE-----\n" + b64(b"0" * 300).encode() + b"\n-----END CERTIFICATE-----\n",
        "too many": certificate * 100,
    }
    for what, raw in raws.items():
        yield f"certificate: {what}", {"tls.crt": b64(raw), "tls.key": b64(key)}
        if what != "the key":
            yield f"key: {what}", {"tls.crt": b64(certificate), "tls.key": b64(raw)}
    keys = {
        "RSA": rsa.generate_private_key(65537, 2048),
        "P-384": ec.generate_private_key(ec.SECP384R1()),
        "secp256k1": ec.generate_private_key(ec.SECP256K1()),
        "Ed25519": ed25519.Ed25519PrivateKey.generate(),
    }
    for what, other in keys.items():
        yield f"both: {what}", {"tls.crt": b64(built(other)), "tls.key": b64(pem(other))}
        yield f"key: {what}", {"tls.crt": b64(certificate), "tls.key": b64(pem(other))}
    yield "key: of another", {"tls.crt": b64(certificate), "tls.key": b64(pem(ec.generate_private_key(ec.SECP256R1())))}
    encrypted = pem(ec.generate_private_key(ec.SECP256R1()), BestAvailableEncryption(b"secret"))
    yield "key: encrypted", {"tls.crt": b64(certificate), "tls.key": b64(encrypted)}


HOSTILE = list(hostile_data())


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@pytest.mark.parametrize("data", [data for _, data in HOSTILE], ids=[what for what, _ in HOSTILE])
def test_what_is_no_pair_is_none(data: Any) -> None:
    assert issuing.read_key_pair(data) is None


def test_a_pair_is_read_as_it_was_written() -> None:
    pair = issue_authority(NOW, NAMES)
    read = issuing.read_key_pair({name: b64(raw) for name, raw in pair.encode().items()})
    assert read is not None
    assert (read.certificate, read.encode()) == (pair.certificate, pair.encode())


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
def test_each_flipped_byte_is_read_or_refused_and_never_raises() -> None:
    """Every byte of the certificate in two ways: what still parses is told from the real one by its signature."""
    authority = issue_authority(NOW, MORE_NAMES).certificate
    serving = issue_serving(NOW, MORE_NAMES, issue_authority(NOW, MORE_NAMES)).certificate
    for certificate in (authority, serving):
        der = bytearray(certificate.public_bytes(Encoding.DER))
        for position in range(len(der)):
            for flip in (0x01, 0x80):
                der[position] ^= flip
                text = b"-----BEGIN CERTIFICATE-----\n" + b64(bytes(der)).encode() + b"\n-----END CERTIFICATE-----\n"
                for read in issuing.parse_certificates(text):
                    if issuing.is_issued_by(read, authority):  # the spelling of a signature has a spare bit
                        assert read.tbs_certificate_bytes == authority.tbs_certificate_bytes
                    for names in (NAMES, MORE_NAMES):
                        issuing.is_authority_for(read, names)
                        issuing.is_serving_for(read, names, authority)
                    issuing.is_valid(read, NOW)
                der[position] ^= flip


def test_of_a_bundle_the_good_ones_are_read() -> None:
    first, second = (issue_authority(NOW, NAMES).certificate for _ in range(2))
    texts = [issuing.encode_certificates([each]) for each in (first, second)]
    broken = texts[0].replace(b"MII", b"AAA", 1)
    mixed = b"# a comment\n" + texts[0] + broken + built(rsa.generate_private_key(65537, 2048)) + texts[1] + b"\0rest"
    assert issuing.parse_certificates(mixed) == (first, second)
    assert issuing.read_certificates(b64(mixed)) == (first, second)
    assert issuing.parse_certificates(mixed * 100) == ()


def test_critical_is_critical_and_a_life_has_its_length() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    wanted = issuing._authority_extensions(key.public_key(), NAMES)
    (lax,) = issuing.parse_certificates(built(key, *(value for value, _ in wanted)))
    (naked,) = issuing.parse_certificates(built(key))
    for certificate in (lax, naked):
        assert not issuing.is_authority_for(certificate, NAMES)
        assert not issuing.is_serving_for(certificate, NAMES, certificate)
    name = issuing._subject("x")
    for more, ours in ((timedelta(0), True), (timedelta(seconds=1), False)):
        end = NOW + issuing.AUTHORITY_LIFE + more
        certificate = issuing._sign(name, key, NOW, end, (name, key), wanted)
        assert issuing.is_authority_for(certificate, NAMES) is ours
