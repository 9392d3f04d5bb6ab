import asyncio
import random
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import cast

import pytest
from prometheus_client import CollectorRegistry

from node_agent.establishing import Enrolment, bootstrap_again
from node_agent.identity.credentials import Credentials
from node_agent.identity.node_identity import IdentityStore
from node_agent.identity.renewal import Renewal
from node_agent.identity.trust_in_force import TrustInForce
from node_agent.metrics import AgentMetrics
from tests.support.agent_control_plane import error
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.clock import ManualClock, SystemClock
from trunkline.runtime.daemon import EXIT_NO_PERMISSION, StartError

RENEW, LISTEN_TOKEN = "/api/2.0/nodes/self/renew", "/api/2.0/nodes/self/listen-token"


@asynccontextmanager
async def running(make_bootstrap, asking, state, log, clock):
    node = await make_bootstrap().run()
    credentials = Credentials(node, IdentityStore(state))
    renewal = Renewal(
        control_plane=asking,
        credentials=credentials,
        trust=TrustInForce(state, SystemClock(), log),
        bootstrap=make_bootstrap().run,
        directory=state,
        metrics=AgentMetrics(CollectorRegistry()),
        clock=clock,
        rng=random.Random(1),
        log=log,
    )
    renewal._backoff = Backoff(random.Random(1), cap_seconds=0.01)
    changes = asyncio.Queue()
    credentials.subscribe(lambda before, after: changes.put_nowait((before, after)))
    task = asyncio.ensure_future(renewal.run())
    yield renewal, changes
    task.cancel()
    await asyncio.wait([task])


async def test_a_token_that_is_asked_for_is_renewed_and_stored(make_bootstrap, asking, state, log, control_plane):
    async with running(make_bootstrap, asking, state, log, SystemClock()) as (renewal, changes):
        control_plane.relays = ["https://new.example"]
        control_plane.faults[LISTEN_TOKEN] = [lambda document: error(503, "X")] * 3
        renewal.ask_for_token()
        before, after = await changes.get()
        assert after.listen_token.reveal() != before.listen_token.reveal()
        assert after.identity.serial == before.identity.serial
        assert after.relays == ("https://new.example",)
        stored = IdentityStore(state).load()
        assert stored is not None
        assert stored.listen_token.reveal() == after.listen_token.reveal()
        renewal.ask_for_token()
        await asyncio.sleep(0.05)
        assert control_plane.count(LISTEN_TOKEN) == 4


async def test_in_the_middle_of_its_life_the_certificate_is_renewed_with_a_new_key(
    make_bootstrap, asking, state, log, control_plane, kit
):
    clock = ManualClock(now=kit.now + 0.71 * 86400)
    control_plane.faults[RENEW] = [lambda document: error(500, "X")]
    async with running(make_bootstrap, asking, state, log, clock) as (_, changes):
        control_plane.node_lifetime_seconds = 10 * 86400
        before, after = await changes.get()
        assert after.identity.serial != before.identity.serial
        assert after.spiffe_id == before.spiffe_id
        keys = [node.identity.chain.leaf.public_key().public_numbers() for node in (before, after)]
        assert keys[0] != keys[1]
        assert not (state / "renewal-key.pem").exists()
        stored = IdentityStore(state).load()
        assert stored is not None
        assert stored.identity.serial == after.identity.serial


async def test_a_renewal_of_another_node_is_refused(make_bootstrap, asking, state, log, control_plane, kit):
    clock = ManualClock(now=kit.now + 0.71 * 86400)
    async with running(make_bootstrap, asking, state, log, clock) as (_, changes):
        control_plane.node_id = "nd-other"
        await control_plane.asked_for(RENEW, 2)
        control_plane.node_id = "nd-one"
        _, after = await changes.get()
        assert after.node_id == "nd-one"


async def test_an_expired_certificate_is_followed_by_a_new_bootstrap(
    make_bootstrap, asking, state, log, logged, control_plane, kit
):
    clock = ManualClock(now=kit.now + 2 * 86400)
    async with running(make_bootstrap, asking, state, log, clock) as (_, changes):
        control_plane.answers.clear()
        before, after = await changes.get()
        assert after.identity.serial != before.identity.serial
    assert any(entry["event"] == "identity.expired" for entry in logged.entries)


async def test_a_join_token_that_is_used_up_ends_the_agent_with_what_to_do(
    make_bootstrap, asking, state, log, control_plane, kit
):
    clock = ManualClock(now=kit.now + 2 * 86400)
    async with running(make_bootstrap, asking, state, log, clock) as (renewal, _):
        enrolment = cast(Enrolment, SimpleNamespace(bootstrap=make_bootstrap()))
        renewal._bootstrap = lambda: bootstrap_again(enrolment)
        control_plane.answers.clear()
        control_plane.faults["/api/2.0/bootstrap"] = [lambda document: error(409, "RESOURCE_CONFLICT")] * 9
        with pytest.raises(StartError) as ended:
            await renewal.run()
        assert ended.value.exit_code == EXIT_NO_PERMISSION


@pytest.mark.parametrize("where", ["before", "after"])
async def test_a_crash_around_the_answer_leaves_an_identity_that_works(
    make_bootstrap, asking, state, log, control_plane, kit, where
):
    clock = ManualClock(now=kit.now + 0.71 * 86400)
    control_plane.faults[RENEW] = [lambda document: error(500, "X")] * 1000 if where == "before" else []
    async with running(make_bootstrap, asking, state, log, clock) as (_, changes):
        await control_plane.asked_for(RENEW)
        if where == "after":
            await changes.get()
    stored = IdentityStore(state).load()
    assert stored is not None
    assert stored.is_valid(kit.now)
