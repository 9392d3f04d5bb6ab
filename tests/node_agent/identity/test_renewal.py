"""What the loop does, and when: pairs in the middle of their life, tokens on demand, the way back after an expiry."""

import asyncio
import re
from dataclasses import replace

import pytest

from certs.identities import Identity, build_csr
from certs.keyfiles import generate_key
from node_agent.identity.node_identity import IdentityStore
from node_agent.identity.renewal import SHORTEST_INTERVAL_SECONDS
from node_agent.identity.returning import least_pause_seconds
from node_agent.identity.sealed_secrets import public_sealing_key
from tests.node_agent.identity.conftest import REQUEST_SECONDS, OffsetClock
from tests.support.agent_control_plane import error
from trunkline.client.control_plane_answers import ControlPlaneRefused
from trunkline.runtime.clock import SystemClock
from trunkline.runtime.daemon import EXIT_NO_PERMISSION, StartError

RENEW, LISTEN_TOKEN = "/api/2.0/nodes/self/renew", "/api/2.0/nodes/self/listen-token"
CONFIRM, LATE, BOOTSTRAP = "/api/2.0/bootstrap/confirm", "/api/2.0/nodes/late-renewal", "/api/2.0/bootstrap"
DAY = 86400


@pytest.fixture
async def first(make_bootstrap):
    return await make_bootstrap().run()


@pytest.fixture
async def due(make_bootstrap, control_plane, kit):
    """A pair that is to be renewed now."""
    control_plane.now = lambda: kit.now - 0.6 * DAY
    control_plane.renew_time = int(kit.now * 1000)
    return await make_bootstrap().run()


@pytest.fixture
async def expired(make_bootstrap, control_plane, kit):
    """An identity that was in force until some days ago."""
    control_plane.now = lambda: kit.now
    node = await make_bootstrap().run()
    control_plane.answers = {key: {} for key in control_plane.answers}
    return node


async def test_a_token_that_is_asked_for_is_renewed_and_stored(first, make_keeper, state, control_plane):
    keeper = make_keeper()
    control_plane.relays = ["https://new.example"]
    control_plane.faults[LISTEN_TOKEN] = [lambda document: error(503, "X")] * 3
    keeper.renewal.ask_for_token()
    after = await keeper.until(lambda node: node.listen_token.reveal() != first.listen_token.reveal())
    assert after.identity.serial == first.identity.serial
    assert after.relays == ("https://new.example",)
    stored = IdentityStore(state).load()
    assert stored.listen_token.reveal() == after.listen_token.reveal()
    assert (stored.confirmed, control_plane.count(RENEW)) == (True, 0)


async def test_a_token_that_is_asked_for_right_after_another_is_renewed_a_moment_later(
    first, make_keeper, control_plane
):
    keeper = make_keeper()
    loop = asyncio.get_running_loop()
    async with keeper.running():
        keeper.renewal.ask_for_token()
        await control_plane.asked_for(LISTEN_TOKEN)
        while keeper.renewal._token_wanted:  # noqa: ASYNC110
            await asyncio.sleep(0)
        renewed_at = keeper.renewal._renewed_at
        keeper.renewal.ask_for_token()
        keeper.renewal.ask_for_token()
        await control_plane.asked_for(LISTEN_TOKEN, 2)
        assert loop.time() - renewed_at > 0.9 * SHORTEST_INTERVAL_SECONDS
    assert control_plane.count(LISTEN_TOKEN) == 2


async def test_in_the_middle_of_its_life_the_pair_is_renewed_with_new_keys(due, make_keeper, state, control_plane):
    control_plane.faults[RENEW] = [lambda document: error(500, "X")]
    keeper = make_keeper()
    after = await keeper.until(lambda node: node.confirmed and node.identity.serial != due.identity.serial)
    assert after.spiffe_id == due.spiffe_id
    assert after.listen_token.reveal() != due.listen_token.reveal()
    assert after.sealing_key.reveal() != due.sealing_key.reveal()
    keys = [node.identity.chain.leaf.public_key().public_numbers() for node in (due, after)]
    assert keys[0] != keys[1]
    assert IdentityStore(state).load().identity.serial == after.identity.serial
    assert keeper.proved == [after.identity.serial]
    assert control_plane.confirmed[-1] == after.identity.serial
    assert control_plane.count(LISTEN_TOKEN) == 0


async def test_before_the_middle_of_its_life_nothing_is_renewed(first, make_keeper, control_plane):
    keeper = make_keeper()
    assert await keeper.renewal._next_work() is not None  # nothing is planned before the loop has begun
    async with keeper.running():
        await asyncio.sleep(0)
        assert await keeper.renewal._next_work() is None
    assert control_plane.count(RENEW) == 0


async def test_a_renewal_of_another_node_is_refused(due, make_keeper, state, control_plane):
    keeper = make_keeper()
    control_plane.node_id = "nd-other"
    async with keeper.running():
        await control_plane.asked_for(RENEW, 2)
    assert IdentityStore(state).load().node_id == "nd-one"
    assert IdentityStore(state).load_successor() is None
    control_plane.node_id = "nd-one"
    control_plane.pairs.clear()
    after = await make_keeper().until(lambda node: node.confirmed and node.identity.serial != due.identity.serial)
    assert after.node_id == "nd-one"


@pytest.mark.parametrize("status", [400, 409])
async def test_a_request_that_is_refused_for_what_it_says_is_made_anew(due, make_keeper, control_plane, status):
    control_plane.faults[RENEW] = [lambda document: error(status, "X")]
    await make_keeper().until(lambda node: node.confirmed and node.identity.serial != due.identity.serial)
    asked = [document["csr"] for path, document in control_plane.asked if path == RENEW]
    assert len(set(asked)) == 2


@pytest.mark.parametrize(("status", "pause_seconds"), [(401, 60.0), (403, 60.0), (404, 60.0), (409, 0.0), (503, 0.0)])
def test_what_is_refused_for_good_is_asked_for_once_a_minute(status, pause_seconds):
    assert least_pause_seconds(ControlPlaneRefused(status, "X", "no")) == pause_seconds


async def test_a_revoked_node_does_not_storm(first, make_keeper, control_plane):
    keeper = make_keeper()
    control_plane.faults[LISTEN_TOKEN] = [lambda document: error(401, "UNAUTHENTICATED")] * 50
    keeper.renewal.ask_for_token()
    async with keeper.running():
        await control_plane.asked_for(LISTEN_TOKEN)
        await asyncio.sleep(0.1)
    assert control_plane.count(LISTEN_TOKEN) == 1


async def test_a_confirmation_that_is_refused_is_followed_by_another_renewal(due, make_keeper, control_plane):
    """The control plane was restored from a backup, and knows nothing of the certificate."""
    control_plane.faults[CONFIRM] = [lambda document: error(401, "UNAUTHENTICATED")]
    after = await make_keeper().until(lambda node: node.confirmed and node.identity.serial != due.identity.serial)
    assert len(control_plane.pairs) == 2
    assert control_plane.sealing_key == public_sealing_key(after.sealing_key)


async def test_a_token_is_renewed_even_while_no_relay_takes_the_successor(due, make_keeper, state, control_plane):
    control_plane.relays = ["https://moved.example"]

    def prove(heir):
        return IdentityStore(state).load().relays == ("https://moved.example",)

    async with make_keeper(prove=prove).running():
        await control_plane.asked_for(RENEW)
    keeper = make_keeper(prove=prove)
    keeper.renewal.ask_for_token()
    await keeper.until(lambda node: node.confirmed and node.identity.serial != due.identity.serial)
    assert control_plane.count(LISTEN_TOKEN) == 1


async def test_a_node_that_joined_with_a_token_returns_by_its_key(expired, make_keeper, state, control_plane, logged):
    clock = OffsetClock(20 * DAY)
    keeper = make_keeper(clock)
    control_plane.now = lambda: clock.now() - 20 * DAY
    control_plane.node_lifetime_seconds = 60 * DAY
    after = await keeper.until(lambda node: node.confirmed and node.identity.serial != expired.identity.serial)
    assert after.spiffe_id == expired.spiffe_id
    assert control_plane.count(LATE) == 1
    assert control_plane.count(BOOTSTRAP) == 1
    assert control_plane.sealing_key == public_sealing_key(after.sealing_key)
    assert any(entry["event"] == "identity.expired" for entry in logged.entries)


async def test_a_late_renewal_whose_answer_is_lost_is_answered_the_same(expired, make_keeper, control_plane):
    clock = OffsetClock(2 * DAY)
    keeper = make_keeper(clock)
    control_plane.now = lambda: clock.now() - 2 * DAY
    control_plane.node_lifetime_seconds = 10 * DAY
    control_plane.lost[LATE] = 2
    await keeper.until(lambda node: node.confirmed and node.identity.serial != expired.identity.serial)
    assert control_plane.count(LATE) == 3
    assert len(control_plane.pairs) == 1


async def test_a_node_that_its_platform_attests_returns_by_evidence(expired, make_keeper, control_plane):
    control_plane.answers.clear()
    keeper = make_keeper(OffsetClock(2 * DAY), late=False)
    await keeper.until(lambda node: node.identity.serial != expired.identity.serial)
    assert (control_plane.count(LATE), control_plane.count(BOOTSTRAP)) == (0, 2)


async def test_where_neither_key_nor_join_token_is_good_the_agent_ends_with_what_to_do(
    expired, make_keeper, control_plane
):
    keeper = make_keeper(OffsetClock(40 * DAY))
    control_plane.faults[LATE] = [lambda document: error(401, "UNAUTHENTICATED")] * 9
    control_plane.faults[BOOTSTRAP] = [lambda document: error(409, "RESOURCE_CONFLICT")] * 9
    with pytest.raises(StartError) as ended:
        await keeper.renewal.run()
    assert ended.value.exit_code == EXIT_NO_PERMISSION


async def test_too_many_at_once_is_no_reason_to_give_the_key_up(expired, make_keeper, control_plane):
    clock = OffsetClock(2 * DAY)
    keeper = make_keeper(clock)
    control_plane.now = lambda: clock.now() - 2 * DAY
    control_plane.node_lifetime_seconds = 10 * DAY
    control_plane.faults[LATE] = [lambda document: error(429, "RESOURCE_EXHAUSTED")] * 2
    await keeper.until(lambda node: node.confirmed and node.identity.serial != expired.identity.serial)
    assert control_plane.count(BOOTSTRAP) == 1


async def test_a_start_with_an_expired_certificate_and_a_valid_successor_asks_nobody(
    expired, make_keeper, make_bootstrap, state, control_plane, kit
):
    key = generate_key()
    chain = kit.authority.issue_node(build_csr(key), expired.spiffe_id, 10 * DAY, now=kit.now)
    IdentityStore(state).save_successor(replace(expired, identity=Identity(key, chain), confirmed=False))
    asked = len(control_plane.asked)
    node = await make_keeper(OffsetClock(2 * DAY)).returning.run(expired)
    assert node.identity.serial == chain.serial
    assert IdentityStore(state).load().identity.serial == chain.serial
    assert len(control_plane.asked) == asked


async def test_a_clock_that_is_set_right_ends_the_way_back(expired, make_keeper, control_plane):
    control_plane.reachable = False
    clock = OffsetClock(90 * DAY)
    returning = asyncio.ensure_future(make_keeper(clock).returning.run(expired))
    await control_plane.asked_for("/api/2.0/bootstrap/challenge", 2)
    clock.offset = 0.0
    async with asyncio.timeout(30):
        assert (await returning).identity.serial == expired.identity.serial


async def test_a_wrong_clock_is_told_before_anything_is_asked_for(expired, make_keeper, asking, control_plane):
    clock = OffsetClock(90 * DAY)
    asking._clock_offset.clock = asking._clock = clock
    with pytest.raises(Exception, match="clock_skew: this machine's clock is 7776000 s ahead"):
        await make_keeper(clock).returning.once(expired)
    assert control_plane.count(LATE) == 0


async def test_a_clock_that_is_minutes_off_makes_a_clear_error_of_a_renewal_that_fails(
    due, make_keeper, asking, logged, control_plane, state, until
):
    clock = OffsetClock(-310.0)
    IdentityStore(state).save(replace(due, renew_at=clock.now()))
    asking._clock_offset.clock = asking._clock = clock
    keeper = make_keeper(clock)
    control_plane.now = SystemClock().now
    async with keeper.running():
        await until(lambda: any(entry["event"] == "clock_skew" for entry in logged.entries))
    [reason, *_] = [entry["reason"] for entry in logged.entries if entry["event"] == "clock_skew"]
    told = re.search(r"this machine's clock is (\d+) s behind", reason)
    assert told, reason
    assert abs(int(told[1]) - 310) <= 1 + REQUEST_SECONDS / 2, "as near as half a second and half the time it took"


@pytest.mark.parametrize("seconds", [-60.0, 60.0])
async def test_a_minute_has_no_effect(due, make_keeper, asking, logged, control_plane, state, seconds):
    clock = OffsetClock(seconds)
    IdentityStore(state).save(replace(due, renew_at=clock.now()))
    asking._clock_offset.clock = asking._clock = clock
    keeper = make_keeper(clock)
    control_plane.now = SystemClock().now
    await keeper.until(lambda node: node.confirmed and node.identity.serial != due.identity.serial)
    assert not any(entry["event"] == "clock_skew" for entry in logged.entries)


async def test_a_certificate_that_is_asked_for_is_renewed_before_its_time_and_once(first, make_keeper, control_plane):
    keeper = make_keeper()
    control_plane.faults[RENEW] = [lambda document: error(503, "X")]
    keeper.renewal.ask_for_certificate()
    after = await keeper.until(lambda node: node.confirmed and node.identity.serial != first.identity.serial)
    assert keeper.proved == [after.identity.serial]
    async with keeper.running():
        await asyncio.sleep(0)
        assert await keeper.renewal._next_work() is None
    assert (control_plane.count(RENEW), control_plane.count(LISTEN_TOKEN)) == (2, 0)


async def test_a_token_that_is_refused_does_not_keep_a_certificate_from_being_renewed(
    first, make_keeper, control_plane
):
    control_plane.faults[LISTEN_TOKEN] = [lambda document: error(403, "X")] * 100
    keeper = make_keeper()
    keeper.renewal.ask_for_token()
    keeper.renewal.ask_for_certificate()
    await keeper.until(lambda node: node.confirmed and node.identity.serial != first.identity.serial)
    assert control_plane.count(LISTEN_TOKEN) == 1


async def test_the_trust_document_that_comes_along_with_a_token_is_taken(first, make_keeper, control_plane):
    keeper = make_keeper()
    control_plane.sequence = 7
    keeper.renewal.ask_for_token()
    await keeper.until(lambda node: node.listen_token.reveal() != first.listen_token.reveal())
    assert keeper.renewal._trust.sequence == 7
