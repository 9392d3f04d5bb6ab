"""The control plane's own identity: renewed by itself, served from files where it is told so."""

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from certs.errors import CertificateError
from certs.identities import build_csr
from certs.keyfiles import generate_key, key_to_pem, write_secret
from control_plane.identity.own_identity import OwnIdentity
from control_plane.metrics import ControlPlaneMetrics
from tests.support.control_planes import settings_for
from tests.support.identities import TRUST_DOMAIN, IdentityKit
from trunkline.runtime.clock import ManualClock
from trunkline.runtime.logs import get_logger


def made(kit: IdentityKit, clock: ManualClock, **sections: Any) -> OwnIdentity:
    return OwnIdentity(
        authority=kit.authority,
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


async def test_a_certificate_from_files_is_served_and_reloaded(tmp_path: Path):
    kit = IdentityKit(tmp_path)
    files = certificate_files(kit, tmp_path)
    own = made(kit, ManualClock(now=kit.now), tls=files)
    served = own._serving.chain.serial
    assert served != own.svid.chain.serial
    certificate_files(kit, tmp_path)
    own.reload()
    assert own._serving.chain.serial not in (served, own.svid.chain.serial)


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
