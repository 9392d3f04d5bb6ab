"""The control plane's own identity: renewed by itself, served from files where it is told so."""

import asyncio
import random
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from certs.chains import certificate_from_der
from certs.errors import CertificateError
from certs.fingerprints import serial_hex
from certs.identities import build_csr
from certs.keyfiles import generate_key, key_to_pem, write_secret
from control_plane.identity.own_identity import OwnIdentity
from control_plane.metrics import ControlPlaneMetrics
from control_plane.signing.in_force import SignersInForce
from control_plane.storage.errors import StorageError
from tests.support.control_planes import RunningControlPlane, running_control_plane, settings_for
from tests.support.identities import TRUST_DOMAIN, IdentityKit
from trunkline.runtime.clock import ManualClock
from trunkline.runtime.logs import get_logger


class OneAuthority:
    """Signers in force that never change."""

    def __init__(self, kit: IdentityKit) -> None:
        self.authority = kit.authority
        self.seats = self
        self.roots = kit.roots
        self.left_roots = ()


def made(kit: IdentityKit, clock: ManualClock, **sections: Any) -> OwnIdentity:
    return OwnIdentity(
        signers=cast(SignersInForce, OneAuthority(kit)),
        settings=settings_for(kit.directory, **sections),
        metrics=ControlPlaneMetrics(CollectorRegistry()),
        clock=clock,
        rng=random.Random(1),
        log=get_logger("test"),
    )


def certificate_files(kit: IdentityKit, directory: Path) -> dict[str, Path]:
    key = generate_key()
    chain = kit.authority.issue_control_plane(build_csr(key), ["localhost"], now=kit.now)
    files = {"certificate_file": directory / "chain.pem", "key_file": directory / "key.pem"}
    files["certificate_file"].write_text(chain.pem)
    write_secret(files["key_file"], key_to_pem(key))
    return files


async def test_it_renews_itself_between_half_and_seven_tenths_of_its_life(tmp_path: Path):
    kit = IdentityKit(tmp_path)
    clock = ManualClock(now=kit.now)
    own = made(kit, clock, tokens={"own_svid_seconds": 1000})
    renewed_at: list[float] = []

    async def note() -> None:
        renewed_at.append(clock.now())

    own.on_renewal(note)
    first = own.svid
    clock.advance(499)
    task = asyncio.create_task(own.keep())
    await asyncio.sleep(0)
    assert own.svid is first
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    clock.advance(202)
    await own.renew()
    assert own.svid.chain.serial != first.chain.serial
    assert own.svid.chain.not_after == pytest.approx(clock.now() + 1000, abs=1)
    assert renewed_at == [clock.now()]


async def test_a_renewal_that_fails_is_tried_again(tmp_path: Path):
    kit = IdentityKit(tmp_path)
    clock = ManualClock(now=kit.now)
    own = made(kit, clock, tokens={"own_svid_seconds": 1000})
    first, tried, renewed = own.svid, [0], asyncio.Event()

    async def store() -> None:
        tried[0] += 1
        if tried[0] < 3:
            raise StorageError("the disk is full")
        renewed.set()

    own.on_renewal(store)
    clock.advance(701)
    task = asyncio.create_task(own.keep())
    async with asyncio.timeout(30):
        await renewed.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert own.svid.serial != first.serial


async def test_an_authority_that_has_ended_leaves_the_old_one(tmp_path: Path):
    kit = IdentityKit(tmp_path)
    clock = ManualClock(now=kit.now)
    own = made(kit, clock)
    first = own.svid
    clock.advance(20 * 365 * 86400)
    with pytest.raises(CertificateError):
        await own.renew()
    assert own.svid is first
    assert not await own._try_to_renew()


async def test_a_clock_that_is_set_back_replaces_what_is_of_the_future(tmp_path: Path):
    kit = IdentityKit(tmp_path)
    clock = ManualClock(now=kit.now + 90 * 86400)
    own = made(kit, clock)
    renewed = asyncio.Event()

    async def note() -> None:
        renewed.set()

    own.on_renewal(note)
    clock.jump(-90 * 86400)
    task = asyncio.create_task(own.keep())
    async with asyncio.timeout(30):
        await renewed.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert own.svid.chain.not_before <= clock.now() < own.svid.chain.not_after


@pytest.mark.parametrize("ahead_seconds", [86400, -30 * 86400])
async def test_what_a_rotation_put_in_place_under_a_wrong_clock_is_replaced_once_that_is_right(
    tmp_path: Path, ahead_seconds: float
):
    kit = IdentityKit(tmp_path)
    clock = ManualClock(now=kit.now)
    own = made(kit, clock)
    keeping = asyncio.create_task(own.keep())
    await asyncio.sleep(0)
    clock.jump(ahead_seconds)
    await own.renew()
    wrong, renewed = own.svid, asyncio.Event()

    async def note() -> None:
        renewed.set()

    own.on_renewal(note)
    clock.jump(-ahead_seconds)
    async with asyncio.timeout(10):
        await renewed.wait()
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    assert own.svid is not wrong
    assert own.svid.chain.not_before <= clock.now() < own.svid.chain.not_after


async def test_a_connection_outlives_a_renewal_and_the_next_handshake_shows_the_new_leaf(plane: RunningControlPlane):
    relay = await plane.relay()
    own = plane.control_plane.identities.own
    feed = plane.session(relay.identity).get(plane.url + "/api/2.0/trust-document/events")
    async with feed as events:
        before = await served_serial(plane)
        assert before == own.svid.serial
        await own.renew()
        assert await served_serial(plane) == own.svid.serial != before
        seen = b""
        async with asyncio.timeout(30):
            while seen.count(b"heartbeat") < 2:
                seen += await events.content.readany()
        assert not events.connection.closed


async def served_serial(plane: RunningControlPlane) -> str:
    """The serial number of the leaf that a new handshake shows."""
    port = plane.control_plane.listener.port
    _, writer = await asyncio.open_connection("localhost", port, ssl=plane.client_tls())
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    return serial_hex(certificate_from_der(der))


async def test_a_certificate_from_files_is_served_and_reloaded(tmp_path: Path):
    kit = IdentityKit(tmp_path)
    files = certificate_files(kit, tmp_path)
    own = made(kit, ManualClock(now=kit.now), tls=files)
    served = own._serving.chain.serial
    assert served != own.svid.chain.serial
    certificate_files(kit, tmp_path)
    own.reload()
    assert own._serving.chain.serial not in (served, own.svid.chain.serial)


@pytest.mark.parametrize(("path", "more"), [("revocations", {}), ("locks", {"lifetime_seconds": 60, "reason": "x"})])
async def test_the_certificate_of_the_files_in_use_is_not_ended_before_there_is_another(
    tmp_path: Path, path: str, more: dict[str, Any]
):
    (tmp_path / "files").mkdir()
    kit = IdentityKit(tmp_path / "files")
    settings = settings_for(tmp_path, tls=certificate_files(kit, tmp_path))
    async with running_control_plane(tmp_path, settings=settings) as plane:
        plane.authority = kit.authority  # it vouches for what is served
        own = plane.control_plane.identities.own
        body = {"kind": "certificate", "id": f"0x0{str(own.serial_of_files).upper()}", **more}
        answer = await plane.call("POST", f"/api/2.0/{path}", body)
        assert (answer.status, answer.error_code) == (409, "RESOURCE_CONFLICT")
        assert "[tls]" in answer.document["message"]
        certificate_files(kit, tmp_path)
        own.reload()
        await plane.ok("POST", f"/api/2.0/{path}", body)


async def test_bad_files_leave_what_is_in_use(tmp_path: Path):
    kit = IdentityKit(tmp_path)
    files = certificate_files(kit, tmp_path)
    own = made(kit, ManualClock(now=kit.now), tls=files)
    served = own._serving.chain.serial
    files["certificate_file"].write_text("not a certificate")
    own.reload()
    assert own._serving.chain.serial == served
    with pytest.raises(CertificateError):
        made(kit, ManualClock(now=kit.now), tls=files)


def test_a_certificate_without_its_key_is_a_wrong_setting(tmp_path: Path):
    kit = IdentityKit(tmp_path)
    files = certificate_files(kit, tmp_path)
    with pytest.raises(ValueError, match="come together"):
        settings_for(tmp_path, tls={"certificate_file": files["certificate_file"]})


async def test_the_context_for_relays_presents_the_present_identity(tmp_path: Path):
    kit = IdentityKit(tmp_path)
    own = made(kit, ManualClock(now=kit.now))
    assert own.client_tls() is not own.client_tls()
    assert made(kit, ManualClock(now=kit.now), relay_reach={"ca_file": kit.ca_file}).client_tls()
    with pytest.raises(ValueError, match="not both"):
        settings_for(tmp_path, relay_reach={"ca_file": kit.ca_file, "public_roots": True})
    assert TRUST_DOMAIN in str(own.svid.spiffe_id)
