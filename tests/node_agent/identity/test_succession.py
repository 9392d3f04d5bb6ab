"""A renewal that is cut off anywhere, or whose answers are lost, or that finds no room, leaves a node that works."""

import asyncio
import errno
import os
from dataclasses import replace

import pytest

from certs.errors import CertificateError
from certs.identities import Identity, build_csr
from certs.keyfiles import generate_key
from certs.keyring import token_key
from certs.trust import TrustDocument, sign_trust_document
from node_agent.identity.node_identity import IdentityStore
from node_agent.identity.sealed_secrets import public_sealing_key
from node_agent.identity.succession import Step
from tests.node_agent.identity.conftest import OffsetClock
from tests.support.identities import IdentityKit
from tests.support.still_disk import a_disk_that_stands_still

DAY = 86400
DUE = 0.6 * DAY
RENEW, CONFIRM = "/api/2.0/nodes/self/renew", "/api/2.0/bootstrap/confirm"
# Every time the directory or a file of it is flushed during a renewal: request, trust document (none: it is the same),
# successor, commit, and the settled identity; each file is flushed itself and by its directory.
FLUSHES = 7
REQUESTED, STORED, COMMITTED = 2, 4, 5
"""After how many of them the request may be sent, the successor proved, and the new identity used."""


class Crash(BaseException):
    """The process is killed here."""


def crash_at(wanted):
    def passed(step):
        if step is wanted:
            raise Crash

    return passed


def files(state):
    return sorted(path.name for path in state.iterdir())


def settled_after(serial):
    return lambda node: node.identity.serial != serial and node.confirmed


def assert_nothing_is_lost(state, control_plane, now):
    """What is in force after a crash is valid, and opens what the control plane seals."""
    node = IdentityStore(state).load()
    assert node.is_valid(now)
    assert control_plane.sealing_key in [public_sealing_key(key) for key in node.sealing_keys]
    return node


@pytest.fixture
async def first(make_bootstrap, control_plane, kit):
    """An identity that the control plane wants renewed now."""
    control_plane.now = lambda: kit.now - DUE
    control_plane.renew_time = int(kit.now * 1000)
    return await make_bootstrap().run()


@pytest.fixture
async def old(make_bootstrap, control_plane, kit):
    """An identity whose token ended two days ago, and whose leaf lives for another day."""
    control_plane.now = lambda: kit.now - 3 * DAY
    control_plane.node_lifetime_seconds = 4 * DAY
    node = await make_bootstrap().run()
    control_plane.node_lifetime_seconds = 2 * DAY
    return node


@pytest.mark.parametrize("step", Step)
async def test_a_crash_at_any_step_is_followed_by_the_rest_of_the_way(step, first, make_keeper, state, control_plane):
    clock = OffsetClock()
    with pytest.raises(Crash):
        await make_keeper(clock, passed=crash_at(step)).until(lambda node: False)
    assert_nothing_is_lost(state, control_plane, clock.now())
    node = (
        IdentityStore(state).load()
        if step is Step.SETTLED
        else await make_keeper(clock).until(settled_after(first.identity.serial))
    )
    assert node.identity.serial != first.identity.serial
    assert node.spiffe_id == first.spiffe_id
    assert control_plane.sealing_key == public_sealing_key(node.sealing_key)
    assert node.former_sealing_keys == ()
    assert len({document["csr"] for path, document in control_plane.asked if path == RENEW}) == 1
    assert files(state) == ["identity.json", "init.json", "trust-document.jws"]
    assert IdentityStore(state).load().identity.serial == node.identity.serial


@pytest.mark.parametrize("flush", range(FLUSHES))
async def test_a_crash_at_any_flush(flush, first, make_keeper, state, control_plane, monkeypatch):
    clock, done = OffsetClock(), []

    def fsync(descriptor):
        if len(done) == flush:
            raise Crash
        done.append(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        with pytest.raises(Crash):
            await make_keeper(clock).until(lambda node: False)
    assert_nothing_is_lost(state, control_plane, clock.now())
    keeper = make_keeper(clock)
    if keeper.credentials.current.identity.serial == first.identity.serial or not keeper.credentials.current.confirmed:
        await keeper.until(settled_after(first.identity.serial))
    assert control_plane.sealing_key == public_sealing_key(IdentityStore(state).load().sealing_key)
    assert [name for name in files(state) if not name.startswith(".")] == [
        "identity.json",
        "init.json",
        "trust-document.jws",
    ]


async def test_there_are_as_many_flushes_as_are_tried(first, make_keeper, monkeypatch):
    done = []
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", done.append)
        await make_keeper(OffsetClock()).until(settled_after(first.identity.serial))
    assert len(done) == FLUSHES


@pytest.mark.parametrize("flush", range(FLUSHES))
async def test_a_full_disk_at_any_flush_is_waited_out(flush, first, make_keeper, state, control_plane, monkeypatch):
    clock, done = OffsetClock(), []

    def fsync(descriptor):
        done.append(descriptor)
        if flush < len(done) <= flush + 3:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        node = await make_keeper(clock).until(settled_after(first.identity.serial))
    assert len(done) > flush
    assert control_plane.sealing_key == public_sealing_key(node.sealing_key)
    assert files(state) == ["identity.json", "init.json", "trust-document.jws"]


async def test_a_disk_that_stands_still_stops_no_loop_and_nothing_is_used_before_it_is_on_it(
    first, make_keeper, state, control_plane
):
    keeper = make_keeper(OffsetClock())
    confirmed_before = control_plane.count(CONFIRM)
    with a_disk_that_stands_still() as disk:
        renewing = asyncio.create_task(keeper.until(settled_after(first.identity.serial)))
        for flush in range(FLUSHES):
            await disk.asked()
            asked = (control_plane.count(RENEW), len(keeper.proved), control_plane.count(CONFIRM) - confirmed_before)
            assert asked == (flush >= REQUESTED, flush >= STORED, flush >= COMMITTED)
            in_force = keeper.credentials.current
            assert (in_force.identity.serial != first.identity.serial) == (flush >= COMMITTED)
            assert in_force.confirmed == (flush < COMMITTED)
            disk.move_once()
        await renewing
    assert files(state) == ["identity.json", "init.json", "trust-document.jws"]


@pytest.mark.parametrize("flush", range(FLUSHES))
async def test_who_ends_while_the_disk_stands_still_leaves_no_thread_that_writes(
    flush, first, make_keeper, state, control_plane
):
    clock, keeper = OffsetClock(), make_keeper(OffsetClock())
    with a_disk_that_stands_still() as disk:
        running = asyncio.create_task(keeper.renewal.run())
        for _ in range(flush):
            await disk.asked()
            disk.move_once()
        await disk.asked()
        running.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not running.done(), "the state directory is not to be given up yet"
        disk.move()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert_nothing_is_lost(state, control_plane, clock.now())
    assert not [name for name in files(state) if name.startswith(".")]


async def test_a_listen_token_is_on_the_disk_before_anybody_hears_of_it(first, make_keeper, state):
    keeper = make_keeper(OffsetClock(), prove=lambda heir: False)
    renewed = first.with_token({"listen_token": "another"})
    with a_disk_that_stands_still() as disk:
        replacing = asyncio.create_task(keeper.credentials.replace(renewed))
        await disk.asked()
        assert keeper.credentials.current is not renewed
        disk.move()
        await replacing
    assert keeper.credentials.current is renewed
    assert IdentityStore(state).load().listen_token.reveal() == "another"


@pytest.mark.parametrize("path", [RENEW, CONFIRM])
async def test_a_lost_answer_is_asked_for_again(path, first, make_keeper, control_plane):
    control_plane.lost[path] = 3
    node = await make_keeper(OffsetClock()).until(settled_after(first.identity.serial))
    assert control_plane.count(path) >= 4
    assert len(control_plane.pairs) == 1
    assert control_plane.sealing_key == public_sealing_key(node.sealing_key)


async def test_a_successor_that_no_relay_takes_changes_nothing(first, make_keeper, state, control_plane):
    refused = []

    def prove(heir):
        refused.append(heir)
        return len(refused) > 3

    keeper = make_keeper(OffsetClock(), prove=prove)
    async with keeper.running():
        await control_plane.asked_for(RENEW)
    assert IdentityStore(state).load().identity.serial == first.identity.serial
    node = await make_keeper(OffsetClock(), prove=prove).until(settled_after(first.identity.serial))
    assert len({heir.identity.serial for heir in refused}) == 1
    assert node.identity.serial == refused[0].identity.serial
    assert len(control_plane.pairs) == 1


async def test_a_successor_that_was_never_taken_is_given_up_for_a_new_one(old, make_keeper, state, kit):
    key = generate_key()
    chain = kit.authority.issue_node(build_csr(key), old.spiffe_id, 2 * DAY, now=kit.now - 1.5 * DAY)
    untaken = replace(old, identity=Identity(key, chain), confirmed=False)
    IdentityStore(state).save_successor(untaken)
    keeper = make_keeper(OffsetClock())
    node = await keeper.until(settled_after(old.identity.serial))
    assert node.identity.serial != untaken.identity.serial
    assert keeper.proved == [node.identity.serial]


async def test_a_successor_of_the_future_is_passed_over_for_another(old, make_keeper, state, kit):
    """It was issued while all clocks were ahead, and they were set right before a relay had taken it."""
    key = generate_key()
    chain = kit.authority.issue_node(build_csr(key), old.spiffe_id, 2 * DAY, now=kit.now + 90 * DAY)
    ahead = replace(old, identity=Identity(key, chain), confirmed=False)
    IdentityStore(state).save_successor(ahead)
    keeper = make_keeper(OffsetClock())
    node = await keeper.until(settled_after(old.identity.serial))
    assert keeper.proved == [node.identity.serial] != [ahead.identity.serial]


@pytest.mark.parametrize("damage", [b"", b"{", b"{}"])
async def test_a_damaged_successor_is_asked_for_anew(damage, first, make_keeper, state):
    path = state / "identity-successor.json"
    path.write_bytes(damage)
    path.chmod(0o600)
    await make_keeper(OffsetClock()).until(settled_after(first.identity.serial))


async def test_an_answer_of_long_ago_is_not_taken_again(old, make_keeper, control_plane):
    """The request was answered, and the answer lost, before the machine slept for most of the new leaf's life."""
    with pytest.raises(Crash):
        await make_keeper(OffsetClock(-1.5 * DAY), passed=crash_at(Step.ANSWERED)).until(lambda node: False)
    clock = OffsetClock()
    node = await make_keeper(clock).until(settled_after(old.identity.serial))
    assert len(control_plane.pairs) == 2
    assert node.lifespan.end > clock.now() + 1.9 * DAY


async def test_the_sealing_key_is_let_go_only_when_the_control_plane_has_the_new_one(
    first, make_keeper, state, control_plane
):
    with pytest.raises(Crash):
        await make_keeper(OffsetClock(), passed=crash_at(Step.COMMITTED)).until(lambda node: False)
    node = IdentityStore(state).load()
    assert not node.confirmed
    assert node.former_sealing_keys[0].reveal() == first.sealing_key.reveal()
    assert control_plane.sealing_key == public_sealing_key(first.sealing_key)
    node = await make_keeper(OffsetClock()).until(lambda node: node.confirmed)
    assert node.former_sealing_keys == ()


async def test_a_successor_whose_token_key_was_left_is_dropped_and_none_such_is_taken(
    first, make_keeper, state, control_plane, kit
):
    keeper = make_keeper()
    succession, trust = keeper.renewal._succession, keeper.renewal._trust
    await succession.obtain(first)
    assert succession.waiting(first) is not None
    control_plane.sequence, control_plane.token_keys = 2, (token_key(generate_key().public_key()),)
    trust.take(control_plane.trust_document())
    assert succession.waiting(first) is None
    assert IdentityStore(state).load_successor() is None
    with pytest.raises(CertificateError, match="a rotation has ended"):
        await succession.obtain(first)
    assert IdentityStore(state).load_successor() is None
    control_plane.sequence, control_plane.token_keys = 3, (kit.token_key,)
    trust.take(control_plane.trust_document())
    await keeper.until(settled_after(first.identity.serial))


async def test_a_successor_under_a_root_that_was_left_is_dropped(first, make_keeper, state, kit, tmp_path):
    (tmp_path / "other").mkdir()
    keeper = make_keeper()
    succession, trust = keeper.renewal._succession, keeper.renewal._trust
    await succession.obtain(first)
    document = TrustDocument(
        trust_domain=kit.trust_domain,
        sequence=2,
        issued_at=int(kit.now),
        roots=tuple(IdentityKit(tmp_path / "other").roots),
        token_keys=(kit.token_key,),
    )
    trust.take(sign_trust_document(document, kit.control_plane))
    assert succession.waiting(first) is None
    assert IdentityStore(state).load_successor() is None
