"""What a relay does at its start with a certificate that is not valid: it finds out whether the clock is."""

import asyncio
import random
from pathlib import Path

import pytest

from certs.identities import Identity, build_csr, relay_id
from certs.keyfiles import generate_key
from relay.establishing import TRUST_FILE, Establishing
from relay.settings import RelaySettings
from relay.succession import SUCCESSOR_FILE
from relay.trust_feed import SNAPSHOT_PATH
from tests.support.identities import IdentityKit
from tests.support.scripted_control_plane import ScriptedControlPlane
from trunkline.runtime.clock import SystemClock
from trunkline.runtime.daemon import StartError
from trunkline.runtime.logs import get_logger

DAY = 86400


class OffsetClock(SystemClock):
    """The machine's clock, moved by the test."""

    __slots__ = ("offset",)

    def __init__(self, offset: float) -> None:
        self.offset = offset

    def now(self) -> float:
        return super().now() + self.offset


@pytest.fixture(scope="module")
def kit(tmp_path_factory) -> IdentityKit:
    return IdentityKit(tmp_path_factory.mktemp("identities"))


@pytest.fixture
async def control_plane(kit: IdentityKit):
    scripted = ScriptedControlPlane()
    scripted.answer("GET", SNAPSHOT_PATH, lambda _: (200, {"trust_document": kit.trust_document()}))
    async with scripted.serve(kit.server_tls().context):
        yield scripted


def establishing(kit: IdentityKit, state: Path, url: str, clock: OffsetClock) -> Establishing:
    settings = RelaySettings.model_validate(
        {
            "state_directory": state,
            "control_plane": {"url": url, "ca_file": kit.ca_file},
            "enrolment": {"name": "relay-1"},
        }
    )
    (state / TRUST_FILE).write_text(kit.trust_document())
    (state / TRUST_FILE).chmod(0o600)
    return Establishing(settings, clock=clock, rng=random.Random(1), log=get_logger("test"))


async def test_with_a_right_clock_it_ends_with_what_to_do(kit: IdentityKit, control_plane, tmp_path: Path):
    old = kit.now - 10 * DAY
    identity = _issued(kit, old, DAY)
    identity.write(tmp_path / "identity.pem")
    with pytest.raises(StartError, match="enrol with a new join token"):
        await establishing(kit, tmp_path, control_plane.url, OffsetClock(0.0)).run()


async def test_a_clock_that_is_months_ahead_is_waited_for(kit: IdentityKit, control_plane, tmp_path: Path, capsys):
    kit.issue_relay().write(tmp_path / "identity.pem")
    clock = OffsetClock(90 * DAY)
    task = asyncio.create_task(establishing(kit, tmp_path, control_plane.url, clock).run())
    await control_plane.wait_for(SNAPSHOT_PATH)
    _, pending = await asyncio.wait([task], timeout=0.1)
    assert pending
    task.cancel()
    await asyncio.wait([task])
    clock.offset = 0.0
    established = await establishing(kit, tmp_path, control_plane.url, clock).run()
    await established.client.close()


async def test_a_successor_that_is_valid_takes_the_place(kit: IdentityKit, control_plane, tmp_path: Path):
    _issued(kit, kit.now - 10 * DAY, DAY).write(tmp_path / "identity.pem")
    heir = kit.issue_relay()
    heir.write(tmp_path / SUCCESSOR_FILE)
    established = await establishing(kit, tmp_path, control_plane.url, OffsetClock(0.0)).run()
    assert established.identity.current.serial == heir.serial
    assert not (tmp_path / SUCCESSOR_FILE).exists()
    assert control_plane.asked == []
    await established.client.close()


def _issued(kit: IdentityKit, now: float, lifetime_seconds: float) -> Identity:
    key = generate_key()
    spiffe_id = relay_id(kit.trust_domain, "rl-one")
    chain = kit.authority.issue_relay(build_csr(key), spiffe_id, ("localhost",), lifetime_seconds, now=now)
    return Identity(key, chain)
