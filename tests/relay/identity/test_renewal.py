"""Renewal of the relay's SVID: in time, proved before it is used, and never undone by a crash or a lost answer."""

import asyncio
import errno
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from certs.identities import Identity, build_csr, relay_id
from certs.keyfiles import generate_key
from certs.late_renewal import LateRenewalRequest, read_late_renewal
from certs.trust import TrustDocument, sign_trust_document
from relay.control_plane.client import ControlPlaneClient
from relay.identity.late_renewal import CHALLENGE_PATH, LATE_RENEWAL_PATH, LateRenewal
from relay.identity.own_identity import OwnIdentity, load_identity
from relay.identity.renewal import CONFIRM_PATH, RENEW_PATH, Renewal
from relay.identity.succession import SUCCESSOR_FILE, Succession
from relay.metrics import RelayMetrics
from tests.support.identities import IdentityKit, none_ended
from tests.support.links import until
from tests.support.relay_trust import TrustPress
from tests.support.scripted_control_plane import ScriptedControlPlane
from tests.support.still_disk import a_disk_that_stands_still
from trunkline.client.clock_offset import ClockOffset
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.clock import ManualClock
from trunkline.runtime.logs import get_logger

LIFE = 7200
FLUSHES = 8
SENT, PROVED = 4, 6
"""After how many the request is on the disk, and may be sent; and the successor, which may be proved."""


class Crash(BaseException):
    """The process is killed here."""


@pytest.fixture(scope="module")
def kit(tmp_path_factory) -> IdentityKit:
    return IdentityKit(tmp_path_factory.mktemp("identities"))


class Issuer:
    """A control plane that issues; the same request gets the same, and `refusals` are answered first, by path."""

    def __init__(self, kit: IdentityKit) -> None:
        self.kit = kit
        self.requests: list[str] = []
        self.issued: dict[str, str] = {}
        self.refusals: dict[str, list[int]] = {RENEW_PATH: [], CONFIRM_PATH: []}
        self.confirmed = 0
        self.documents: list[str] = []
        self.late: list[LateRenewalRequest] = []
        self.relay = "rl-one"
        self.scripted = ScriptedControlPlane()
        self.scripted.answer("POST", RENEW_PATH, self._renew)
        self.scripted.answer("POST", CONFIRM_PATH, self._confirm)
        self.scripted.answer("POST", CHALLENGE_PATH, lambda _: (200, {"nonce": "n-1"}))
        self.scripted.answer("POST", LATE_RENEWAL_PATH, self._renew_late)

    def _renew_late(self, document: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.late.append(read_late_renewal(document["request"], trust_domain=self.kit.trust_domain))
        status, answer = self._renew(document)
        return status, answer | {"trust_document": "a.b.c"}

    def _renew(self, document: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.requests.append(document["csr"])
        if self.refusals[RENEW_PATH]:
            return self.refusals[RENEW_PATH].pop(0), {}
        spiffe_id = relay_id(self.kit.trust_domain, self.relay)
        if document["csr"] not in self.issued:
            chain = self.kit.authority.issue_relay(document["csr"], spiffe_id, ("localhost",), 86400, now=self.kit.now)
            self.issued[document["csr"]] = chain.pem
        return 200, {"certificate_chain": self.issued[document["csr"]]}

    def _confirm(self, document: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self.refusals[CONFIRM_PATH]:
            return self.refusals[CONFIRM_PATH].pop(0), {}
        self.confirmed += 1
        return 200, {}


@pytest.fixture
def issuer(kit: IdentityKit) -> Issuer:
    return Issuer(kit)


@pytest.fixture
def first(kit: IdentityKit, tmp_path: Path) -> Identity:
    identity = kit.issue_relay(lifetime_seconds=LIFE)
    identity.write(tmp_path / "identity.pem")
    return identity


@asynccontextmanager
async def restarted(
    kit: IdentityKit, issuer: Issuer, state: Path, *, at: float = 0.71
) -> AsyncIterator[tuple[Renewal, OwnIdentity, RelayMetrics]]:
    """What a relay that has just been started makes of the directory."""
    stored = load_identity(state)
    assert stored is not None
    own, metrics = OwnIdentity(stored, state / "identity.pem"), RelayMetrics(CollectorRegistry())
    clock, log = ManualClock(now=kit.now + at * LIFE), get_logger("test.renewal")
    async with issuer.scripted.serve(kit.server_tls().context):
        client = ControlPlaneClient(issuer.scripted.url, kit.client_tls(own.current), verdict=none_ended)
        succession = Succession(state, identity=own, store=TrustPress(kit).store(), clock=clock, log=log)
        renewal = Renewal(
            client=client,
            connect=lambda heir: ControlPlaneClient(issuer.scripted.url, kit.client_tls(heir), verdict=none_ended),
            identity=own,
            succession=succession,
            late=LateRenewal(identity=own, succession=succession, take_trust=issuer.documents.append),
            metrics=metrics,
            clock=clock,
            rng=random.Random(1),
            log=log,
        )
        renewal._backoff = Backoff(random.Random(1), cap_seconds=0.01)
        try:
            yield renewal, own, metrics
        finally:
            await client.close()


async def until_renewed(renewal: Renewal, own: OwnIdentity) -> None:
    before, renewed = own.current, renewal._metrics.renewals.of("renewed")
    task = asyncio.create_task(renewal.run())
    waiting = asyncio.create_task(until(lambda: renewed.count > 0))
    await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED, timeout=30)
    waiting.cancel()
    if task.done():
        task.result()
    task.cancel()
    await asyncio.wait([task, waiting])
    assert own.current is not before


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def test_it_asks_the_same_until_it_is_answered(kit: IdentityKit, issuer: Issuer, first: Identity, tmp_path: Path):
    issuer.refusals[RENEW_PATH] = [503, 500]
    issuer.refusals[CONFIRM_PATH] = [503]
    async with restarted(kit, issuer, tmp_path) as (renewal, own, metrics):
        await until_renewed(renewal, own)
        assert own.current.serial != first.serial
        assert (len(issuer.requests), len(set(issuer.requests))) == (3, 1)
        assert (metrics.renewals.of("failed").count, metrics.renewals.of("renewed").count) == (3, 1)
    assert names(tmp_path) == ["identity.pem"]
    assert issuer.confirmed == 1


async def test_a_relay_that_was_cut_off_until_its_certificate_had_expired_renews_by_its_key(
    kit: IdentityKit, issuer: Issuer, first: Identity, tmp_path: Path
):
    issuer.refusals[RENEW_PATH] = [503]
    async with restarted(kit, issuer, tmp_path, at=1.5) as (renewal, own, _):
        await until_renewed(renewal, own)
        assert own.current.serial != first.serial
    assert [request.serial for request in issuer.late] == [first.serial] * 2
    assert (len(set(issuer.requests)), issuer.confirmed) == (1, 1)
    assert issuer.documents == ["a.b.c"]
    assert names(tmp_path) == ["identity.pem"]
    for request in issuer.late:
        request.verify(first.chain.leaf.public_key())


async def test_before_it_is_time_nothing_is_asked(kit: IdentityKit, issuer: Issuer, first: Identity, tmp_path: Path):
    async with restarted(kit, issuer, tmp_path, at=0.49) as (renewal, _, _):
        task = asyncio.create_task(renewal.run())
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.wait([task])
    assert issuer.requests == []


@pytest.mark.parametrize("flush", range(FLUSHES))
async def test_a_crash_at_any_flush_leaves_one_that_works_and_is_followed_by_the_rest(
    kit: IdentityKit, issuer: Issuer, first: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flush: int
):
    done: list[int] = []

    def fsync(descriptor: int) -> None:
        if len(done) == flush:
            raise Crash
        done.append(descriptor)

    async with restarted(kit, issuer, tmp_path) as (renewal, own, _):
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", fsync)
            with pytest.raises(Crash):
                await until_renewed(renewal, own)
    stored = load_identity(tmp_path)
    assert stored is not None
    if stored.serial == first.serial:
        async with restarted(kit, issuer, tmp_path) as (renewal, own, _):
            await until_renewed(renewal, own)
            assert own.current.serial != first.serial
    assert len(issuer.issued) == 1


async def test_a_disk_that_stands_still_stops_no_loop_and_nothing_is_used_before_it_is_on_it(
    kit: IdentityKit, issuer: Issuer, first: Identity, tmp_path: Path
):
    async with restarted(kit, issuer, tmp_path) as (renewal, own, _):
        with a_disk_that_stands_still() as disk:
            renewing = asyncio.create_task(until_renewed(renewal, own))
            for flush in range(FLUSHES):
                await disk.asked()
                assert own.current.serial == first.serial
                assert (len(issuer.requests), issuer.confirmed) == (flush >= SENT, flush >= PROVED)
                disk.move_once()
            await renewing
    assert names(tmp_path) == ["identity.pem"]


async def test_who_ends_while_the_disk_stands_still_leaves_no_thread_that_writes(
    kit: IdentityKit, issuer: Issuer, first: Identity, tmp_path: Path
):
    async with restarted(kit, issuer, tmp_path) as (renewal, _, _):
        with a_disk_that_stands_still() as disk:
            running = asyncio.create_task(renewal.run())
            await disk.asked()
            running.cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert not running.done(), "the state directory is not to be given up yet"
            disk.move()
            with pytest.raises(asyncio.CancelledError):
                await running
    assert names(tmp_path) == ["identity.pem", "renewal-key.pem", "renewal-request.pem"]
    async with restarted(kit, issuer, tmp_path) as (renewal, own, _):
        await until_renewed(renewal, own)


async def test_what_is_asked_for_while_the_successor_is_stored_is_done_with_it(
    kit: IdentityKit, issuer: Issuer, first: Identity, tmp_path: Path
):
    async with restarted(kit, issuer, tmp_path) as (renewal, own, _):
        with a_disk_that_stands_still() as disk:
            renewing = asyncio.create_task(until_renewed(renewal, own))
            for _ in range(FLUSHES - 1):
                await disk.asked()
                disk.move_once()
            await disk.asked()
            renewal.ask()
            disk.move()
            await renewing
        assert not renewal._wanted


@pytest.mark.parametrize("flush", range(FLUSHES))
async def test_a_full_disk_is_waited_out(
    kit: IdentityKit, issuer: Issuer, first: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flush: int
):
    done: list[int] = []

    def fsync(descriptor: int) -> None:
        done.append(descriptor)
        if flush < len(done) <= flush + 3:
            raise OSError(errno.ENOSPC, "No space left on device")

    async with restarted(kit, issuer, tmp_path) as (renewal, own, _):
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", fsync)
            await until_renewed(renewal, own)
        stored = load_identity(tmp_path)
        assert stored is not None
        assert stored.serial == own.current.serial != first.serial
    assert len(done) > flush


async def test_a_successor_is_proved_before_it_is_used(
    kit: IdentityKit, issuer: Issuer, first: Identity, tmp_path: Path
):
    issuer.refusals[CONFIRM_PATH] = [503] * 1000
    async with restarted(kit, issuer, tmp_path) as (renewal, own, _):
        task = asyncio.create_task(renewal.run())
        await issuer.scripted.wait_for(CONFIRM_PATH, 3)
        task.cancel()
        await asyncio.wait([task])
        assert own.current.serial == first.serial
    stored = load_identity(tmp_path)
    assert stored is not None
    assert stored.serial == first.serial
    assert (tmp_path / SUCCESSOR_FILE).exists()
    issuer.refusals[CONFIRM_PATH] = []
    async with restarted(kit, issuer, tmp_path, at=0.1) as (renewal, own, _):
        await until_renewed(renewal, own)
    assert len(issuer.requests) == 1


async def test_a_successor_of_the_future_is_passed_over_for_another(
    kit: IdentityKit, issuer: Issuer, first: Identity, tmp_path: Path
):
    """It was issued while all clocks were ahead, and they were set right before it was proved."""
    key = generate_key()
    chain = kit.authority.issue_relay(build_csr(key), first.spiffe_id, ("localhost",), 86400, now=kit.now + 90 * 86400)
    Identity(key, chain).write(tmp_path / SUCCESSOR_FILE)
    async with restarted(kit, issuer, tmp_path) as (renewal, own, _):
        await until_renewed(renewal, own)
        assert own.current.serial not in (first.serial, chain.serial)
    assert names(tmp_path) == ["identity.pem"]


@pytest.mark.parametrize("path", [RENEW_PATH, CONFIRM_PATH])
async def test_what_is_refused_for_good_is_asked_for_anew(
    kit: IdentityKit, issuer: Issuer, first: Identity, tmp_path: Path, path: str
):
    issuer.refusals[path] = [409]
    async with restarted(kit, issuer, tmp_path) as (renewal, own, _):
        await until_renewed(renewal, own)
    assert len(set(issuer.requests)) == 2


async def test_a_deleted_relay_does_not_storm(kit: IdentityKit, issuer: Issuer, first: Identity, tmp_path: Path):
    issuer.refusals[RENEW_PATH] = [401] * 50
    async with restarted(kit, issuer, tmp_path) as (renewal, _, metrics):
        task = asyncio.create_task(renewal.run())
        async with asyncio.timeout(30):
            await until(lambda: metrics.renewals.of("failed").count > 0)
        await asyncio.sleep(0.3)
        task.cancel()
        await asyncio.wait([task])
        assert metrics.renewals.of("failed").count == 1
    assert len(issuer.refusals[RENEW_PATH]) == 49


async def test_the_certificate_of_another_relay_is_not_taken(
    kit: IdentityKit, issuer: Issuer, first: Identity, tmp_path: Path
):
    issuer.relay = "rl-two"
    async with restarted(kit, issuer, tmp_path) as (renewal, own, _):
        task = asyncio.create_task(renewal.run())
        await issuer.scripted.wait_for(RENEW_PATH, 2)
        task.cancel()
        await asyncio.wait([task])
        assert own.current.serial == first.serial


async def test_a_wrong_clock_is_what_a_useless_answer_is_put_down_to(
    kit: IdentityKit, issuer: Issuer, first: Identity, tmp_path: Path
):
    async with restarted(kit, issuer, tmp_path) as (renewal, own, metrics):
        offset = ClockOffset(ManualClock(now=kit.now + 40 * 86400))
        renewal._connect = lambda _: ControlPlaneClient(
            issuer.scripted.url, kit.client_tls(), offset, verdict=none_ended
        )
        renewal._succession._clock = renewal._clock = ManualClock(now=kit.now + 40 * 86400)
        task = asyncio.create_task(renewal.run())
        await issuer.scripted.wait_for(CHALLENGE_PATH)
        async with asyncio.timeout(30):
            while not metrics.renewals.of("clock_skew").count:  # noqa: ASYNC110 - nobody sets an event for us there
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        assert own.current.serial == first.serial
        assert issuer.late == []


async def test_what_is_asked_for_is_renewed_before_its_time_and_once(
    kit: IdentityKit, issuer: Issuer, first: Identity, tmp_path: Path
):
    issuer.refusals[RENEW_PATH] = [503]
    async with restarted(kit, issuer, tmp_path, at=0.1) as (renewal, own, _):
        task = asyncio.create_task(renewal.run())
        await asyncio.sleep(0)
        renewed = asyncio.Event()
        own.subscribe(lambda _: renewed.set())
        renewal.ask()
        async with asyncio.timeout(30):
            await renewed.wait()
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.wait([task])
    assert own.current.serial != first.serial
    assert (len(issuer.requests), issuer.confirmed) == (2, 1)


async def test_a_successor_under_a_root_that_was_left_is_dropped(kit: IdentityKit, first: Identity, tmp_path: Path):
    store, own = TrustPress(kit).store(), OwnIdentity(first, tmp_path / "identity.pem")
    clock = ManualClock(now=kit.now)
    succession = Succession(tmp_path, identity=own, store=store, clock=clock, log=get_logger("test.renewal"))
    kit.issue_relay().write(tmp_path / SUCCESSOR_FILE)
    assert succession.waiting() is not None
    (tmp_path / "other").mkdir()
    document = TrustDocument(
        trust_domain=kit.trust_domain,
        sequence=2,
        issued_at=int(kit.now),
        roots=tuple(IdentityKit(tmp_path / "other").roots),
        token_keys=(kit.token_key,),
    )
    store.replace(sign_trust_document(document, kit.control_plane), kit.now)
    assert succession.waiting() is None
    assert not (tmp_path / SUCCESSOR_FILE).exists()
