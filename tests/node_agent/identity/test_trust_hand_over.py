import asyncio
import random
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from node_agent.identity import trust_hand_over
from node_agent.identity.credentials import Credentials
from node_agent.identity.node_identity import IdentityStore
from node_agent.identity.trust_hand_over import HELD_PATH, TrustHandOver
from node_agent.identity.trust_in_force import TrustInForce
from trunkline.runtime.clock import SystemClock


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(trust_hand_over, "EARLIEST_SECONDS", 0.0)
    monkeypatch.setattr(trust_hand_over, "LATEST_SECONDS", 0.01)


@asynccontextmanager
async def handing_over(make_bootstrap, asking, state, log):
    credentials = Credentials(await make_bootstrap().run(), IdentityStore(state))
    trust = TrustInForce(state, SystemClock(), log)
    hand_over = TrustHandOver(asking, credentials, trust, random.Random(1), log)
    task = asyncio.ensure_future(hand_over.run())
    yield trust
    task.cancel()
    await asyncio.wait([task])


def given(control_plane):
    return [document["trust_document"] for path, document in control_plane.asked if path == HELD_PATH]


async def test_what_is_ahead_of_a_relay_is_handed_over_once(make_bootstrap, asking, state, log, control_plane, kit):
    async with handing_over(make_bootstrap, asking, state, log) as trust:
        trust.take(kit.trust_document(7))
        held = trust.store.text
        control_plane.faults[HELD_PATH] = [lambda document: web.json_response({}, status=503)]
        trust.offer(kit.trust_document(5))
        await control_plane.asked_for(HELD_PATH, 1)
        trust.offer(kit.trust_document(5))
        await control_plane.asked_for(HELD_PATH, 2)
        trust.offer(kit.trust_document(6))
        await asyncio.sleep(0.05)
        assert given(control_plane) == [held, held]
        assert trust.sequence == 7


async def test_what_is_refused_for_another_reason_is_nothing_to_hand_over(
    make_bootstrap, asking, state, log, control_plane, kit
):
    async with handing_over(make_bootstrap, asking, state, log) as trust:
        trust.take(kit.trust_document(7))
        for text in ("garbage", None, kit.trust_document(7), kit.trust_document(8)):
            trust.offer(text)
        await asyncio.sleep(0.05)
        assert given(control_plane) == []
        assert trust.sequence == 8
