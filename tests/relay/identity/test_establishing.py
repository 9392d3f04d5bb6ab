"""What a relay does at its start with a certificate that is not valid: it finds out whether the clock is."""

import asyncio
import random
from pathlib import Path

import pytest

from certs.identities import Identity, build_csr, relay_id
from certs.keyfiles import generate_key
from certs.late_renewal import LateRenewalRequest, read_late_renewal
from relay.control_plane.trust_feed import SNAPSHOT_PATH
from relay.identity.establishing import TRUST_FILE, Establishing
from relay.identity.late_renewal import CHALLENGE_PATH, LATE_RENEWAL_PATH
from relay.identity.own_identity import load_identity
from relay.identity.renewal import CONFIRM_PATH
from relay.identity.succession import SUCCESSOR_FILE
from relay.settings import RelaySettings
from tests.support.identities import IdentityKit
from tests.support.scripted_control_plane import ScriptedControlPlane
from trunkline.runtime.clock import SystemClock
from trunkline.runtime.daemon import StartError
from trunkline.runtime.files import StateDirectoryError
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
    scripted.answer("POST", CHALLENGE_PATH, lambda _: (200, {"nonce": "n-1"}))
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


def renewing_late(kit: IdentityKit, control_plane: ScriptedControlPlane, *statuses: int) -> list[LateRenewalRequest]:
    """Have late renewals granted, after so many answers with these statuses; returns what was asked."""
    asked: list[LateRenewalRequest] = []
    before = list(statuses)

    def renew(document):
        asked.append(read_late_renewal(document["request"], trust_domain=kit.trust_domain))
        if before:
            return before.pop(0), {"error_code": "X", "message": "no"}
        spiffe_id = relay_id(kit.trust_domain, "rl-one")
        chain = kit.authority.issue_relay(document["csr"], spiffe_id, ("localhost",), DAY, now=kit.now)
        return 200, {"certificate_chain": chain.pem, "trust_document": kit.trust_document()}

    control_plane.answer("POST", LATE_RENEWAL_PATH, renew)
    control_plane.answer("POST", CONFIRM_PATH, lambda _: (200, {}))
    return asked


async def test_with_a_right_clock_it_renews_late_by_its_key(kit: IdentityKit, control_plane, tmp_path: Path):
    old = _issued(kit, kit.now - 10 * DAY, DAY)
    old.write(tmp_path / "identity.pem")
    asked = renewing_late(kit, control_plane, 503)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("relay.identity.establishing.REFUSED_PAUSE_SECONDS", 0.01)
        established = await establishing(kit, tmp_path, control_plane.url, OffsetClock(0.0)).run()
    assert [request.serial for request in asked] == [old.serial] * 2
    assert established.identity.current.serial != old.serial
    assert load_identity(tmp_path).serial == established.identity.current.serial
    assert CONFIRM_PATH in [path for _, path, _ in control_plane.asked]
    assert not (tmp_path / SUCCESSOR_FILE).exists()
    await established.client.close()


async def test_where_that_is_refused_it_ends_with_what_to_do(kit: IdentityKit, control_plane, tmp_path: Path):
    _issued(kit, kit.now - 50 * DAY, DAY).write(tmp_path / "identity.pem")
    renewing_late(kit, control_plane, 401)
    with pytest.raises(StartError, match="enrol with a new join token"):
        await establishing(kit, tmp_path, control_plane.url, OffsetClock(0.0)).run()


@pytest.mark.parametrize("offset", [90 * DAY, -20_000 * DAY])
async def test_a_wrong_clock_is_waited_for_and_no_longer(
    kit: IdentityKit, control_plane, tmp_path: Path, monkeypatch, offset: float
):
    monkeypatch.setattr("trunkline.runtime.wall_time.LOOK_SECONDS", 0.01)
    own = kit.issue_relay()
    own.write(tmp_path / "identity.pem")
    clock = OffsetClock(offset)
    task = asyncio.create_task(establishing(kit, tmp_path, control_plane.url, clock).run())
    await control_plane.wait_for(CHALLENGE_PATH)
    _, pending = await asyncio.wait([task], timeout=0.1)
    assert pending
    clock.offset = 0.0
    async with asyncio.timeout(25):  # it would ask again after half a minute
        established = await task
    assert established.identity.current.serial == own.serial
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


async def test_a_disk_that_does_not_take_the_new_key_is_no_wrong_setting(kit: IdentityKit, tmp_path: Path):
    token = tmp_path / "join-token"
    token.write_text("tlr-x")
    token.chmod(0o600)
    settings = RelaySettings.model_validate(
        {
            "state_directory": tmp_path / "not-there",
            "control_plane": {"url": "https://localhost:1", "ca_file": kit.ca_file},
            "enrolment": {"name": "relay-1", "join_token_file": token},
        }
    )
    start = Establishing(settings, clock=OffsetClock(0), rng=random.Random(1), log=get_logger("test"))
    with pytest.raises(StateDirectoryError, match=r"cannot write .*not-there"):
        await start.run()
