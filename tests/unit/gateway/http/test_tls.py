"""The certificate that is shown, while it is renewed under the feet of the process."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from skill_operator.gateway.http import tls
from skill_operator.gateway.http.tls import Certificate, CertificateError
from tests.unit.gateway.world import World, fine

pytestmark = pytest.mark.timeout(20)
EC, RSA = ("ec", "-pkeyopt", "ec_paramgen_curve:P-256"), ("rsa:2048",)


def make(folder: Path, name: str, kind: tuple[str, ...] = EC, *more: str) -> None:
    """As kubelet does it: both files change at once, behind a link."""
    fresh = folder / f"..{name}"
    fresh.mkdir()
    where = ("-keyout", str(fresh / "tls.key"), "-out", str(fresh / "tls.crt"))
    options = more or ("-nodes",)
    command = ("openssl", "req", "-x509", "-newkey", *kind, *options, *where, "-days", "1", "-subj", f"/CN={name}")
    subprocess.run(command, check=True, capture_output=True)
    point(folder, fresh)


def point(folder: Path, fresh: Path) -> None:
    link = folder / "..tmp"
    link.symlink_to(fresh)
    link.rename(folder / "..data")
    for name in tls.FILE_NAMES:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")


class Secure(World):
    def __init__(self, stack: AsyncExitStack, folder: Path) -> None:
        super().__init__(stack)
        self.certificate = Certificate(folder)

    async def shown(self, name: str | None = "localhost") -> str:
        """Whose certificate a client sees."""
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        port = int(self.url.rpartition(":")[2])
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting, server_hostname=name or "")
        found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return next(cn for cn in ("first", "second", "third") if cn.encode() in found)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Secure]:
    make(tmp_path, "first")
    async with AsyncExitStack() as stack:
        made = Secure(stack, tmp_path)
        await made.start()
        yield made


async def test_a_renewed_one_is_shown_to_who_comes_next(world: Secure, tmp_path: Path) -> None:
    await world.pod(fine)
    world.know()
    status, _, _ = await world.call(ssl=False)
    assert status == 200
    assert await world.shown() == await world.shown(None) == "first"
    world.certificate.reload()
    assert await world.shown() == "first"
    make(tmp_path, "second", RSA)  # of another kind: the first must not be left beside it
    assert await world.shown() == "first"
    world.certificate.reload()
    assert await world.shown() == await world.shown(None) == "second"
    status, _, _ = await world.call(ssl=False)  # on the connection from before
    assert status == 200


def failures() -> float:
    return REGISTRY.get_sample_value("skill_gateway_certificate_loads_total", {"outcome": "failed"}) or 0


async def test_one_that_cannot_be_used_is_not(world: Secure, tmp_path: Path) -> None:
    before = failures()
    make(tmp_path, "second")
    (tmp_path / "..second" / "tls.key").write_bytes((tmp_path / "..first" / "tls.key").read_bytes())
    world.certificate.reload()
    (tmp_path / "..second" / "tls.crt").write_text("rubbish")
    world.certificate.reload()
    (tmp_path / "..second" / "tls.crt").unlink()
    world.certificate.reload()
    assert failures() == before + 3
    assert await world.shown() == "first"
    make(tmp_path, "third")
    world.certificate.reload()
    assert await world.shown() == "third"


async def test_it_looks_by_itself(world: Secure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "CHECK_SECONDS", 0.01)
    keeping = asyncio.create_task(world.certificate.watch())
    make(tmp_path, "second")
    async with asyncio.timeout(5):
        while await world.shown() != "second":
            pass
    keeping.cancel()


def test_without_one_there_is_no_start(tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match=r"tls\.crt cannot be read"):
        Certificate(tmp_path)
    make(tmp_path, "first", EC, "-passout", "pass:secret")
    with pytest.raises(CertificateError, match="encrypted"):
        Certificate(tmp_path)
