"""Decide when the gateway's CA and certificate are made anew: pure functions of the time, the names and what is there.

A CA is replaced long before it expires. Callers get to know the new one first: it is published at once, beside the
former, and signs only after a while. The former is published until no gateway shows a certificate of it any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from skill_operator.certificates.issuing import (
    Certificate,
    KeyPair,
    is_authority_for,
    is_issued_by,
    is_serving_for,
    is_valid,
    issued_at,
    renewal_time,
)

SETTLING = timedelta(days=7)
"""A new CA signs so long after it was published, where the certificate of the former one still serves."""
SETTLING_OF_NEW_NAMES = timedelta(minutes=5)
"""The same where the gateway's names changed: kubelets renew mounted ConfigMaps within two minutes."""
LAST_MOMENT = timedelta(days=1)
"""So long before a certificate expires nothing is waited for any more."""
FORMER_KEPT = timedelta(days=1)
"""A former CA is published so long after the present one has signed: gateways load the new certificate in minutes."""
MAX_FORMER = 8


@dataclass(frozen=True)
class Found:
    """Found is what the cluster holds, as far as it can be used. `former` are the CAs before the present one."""

    authority: KeyPair | None
    serving: KeyPair | None
    former: tuple[Certificate, ...] = ()


def why_new_authority(now: datetime, found: Found, names: Sequence[str]) -> str:
    """Return why a new CA is needed, or nothing where the present one goes on."""
    if found.authority is None:
        return "there is none that can be used"
    certificate = found.authority.certificate
    if not is_valid(certificate, now):
        return "the present one is not valid at this time"
    if not is_authority_for(certificate, names) or not is_issued_by(certificate, certificate):
        return "the present one is not for these names"
    if now >= renewal_time(certificate):
        return "two thirds of its life are over"
    return ""


def needed_former(now: datetime, found: Found) -> tuple[Certificate, ...]:
    """Return the former CAs that callers still have to trust, first the one that the gateway needs now."""
    serving = None if found.serving is None else found.serving.certificate
    if found.authority is not None and serving is not None:
        moved = is_issued_by(serving, found.authority.certificate)
        if moved and now >= issued_at(serving) + FORMER_KEPT:
            return ()
    valid = [certificate for certificate in found.former if is_valid(certificate, now)]
    valid.sort(key=lambda each: serving is None or not is_issued_by(serving, each))
    return tuple(dict.fromkeys(valid))[:MAX_FORMER]


def why_new_serving(now: datetime, found: Found, names: Sequence[str]) -> str:
    """Return why a new serving certificate is needed, or nothing where the present one goes on. Needs a CA."""
    if found.authority is None:
        raise ValueError("nobody can sign a certificate without a CA")
    if found.serving is None:
        return "there is none that can be used"
    certificate, authority = found.serving.certificate, found.authority.certificate
    if not is_valid(certificate, now):
        return "the present one is not valid at this time"
    if is_issued_by(certificate, authority):
        if not is_serving_for(certificate, names, authority):
            return "the present one is not for these names"
        return "two thirds of its life are over" if now >= renewal_time(certificate) else ""
    issuer = next((each for each in found.former if is_issued_by(certificate, each)), None)
    if issuer is None or not is_valid(issuer, now):
        return "no CA that callers know has signed the present one"
    settling = SETTLING if is_serving_for(certificate, names, issuer) else SETTLING_OF_NEW_NAMES
    due = min(issued_at(authority) + settling, certificate.not_valid_after_utc - LAST_MOMENT)
    return "the CA has been replaced" if now >= due else ""
