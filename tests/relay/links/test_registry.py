import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from relay.background import Background
from relay.links.claims import Claims
from relay.links.listeners import Listener
from relay.links.registry import Registry
from relay.links.superseded import MOST_OF_A_NODE
from relay.links.trust_pushes import MOST_IN_A_TURN
from relay.metrics import RelayMetrics
from relay.settings import LimitsSettings
from relay.trust.credentials import Credential, ListenerGrant, Refusal, SenderGrant
from relay.trust.use_kinds import UseKind
from relay.trust.uses import Uses
from tests.support.listening_agents import ListeningAgent, join_links
from trunkline.channel.link import Link
from trunkline.channel.outcomes import Outcome
from trunkline.runtime.logs import get_logger

LIMITS = LimitsSettings(ping_seconds=0.05, notice_seconds=5.0, drain_seconds=5.0, max_links_per_workspace=3)


def grant(node: str = "vm-1", workspace: str = "finance", *, ends_at: float = 1e12) -> ListenerGrant:
    credential = Credential(None, subject=node, ends_at=ends_at)
    spiffe_id = f"spiffe://trunkline.test/workspace/ws-{workspace}/node/nd-{node}"
    return ListenerGrant(credential, f"ws-{workspace}", f"nd-{node}", workspace, node, spiffe_id, "thumb")


class Fixture:
    """A registry and its claims, with what they reported, and agents to attach."""

    def __init__(self, background: Background) -> None:
        self.metrics_registry = CollectorRegistry()
        self.reported: list[tuple[str, dict[str, Any]]] = []
        self.refusal: Refusal | None = None
        self.counts: list[int] = []
        metrics, log = RelayMetrics(self.metrics_registry), get_logger("test.registry")
        self.registry = Registry(
            limits=LIMITS,
            metrics=metrics,
            uses=Uses(),
            renew=self._renew,
            spawn=background.spawn,
            report=self._report,
            counted=self.counts.append,
            log=log,
        )
        self.claims = Claims(self.registry, limits=LIMITS, metrics=metrics, report=self._report, log=log)
        self.links: list[Link] = []

    def _report(self, kind: str, **members: Any) -> None:
        self.reported.append((kind, members))

    def _renew(self, listener: Listener, token: str) -> Refusal | None:
        if self.refusal is None:
            listener.credential = Credential(None, subject=token, ends_at=2e12)
        return self.refusal

    async def attach(
        self, instance: str, sequence: int, granted: ListenerGrant | None = None, **options: Any
    ) -> tuple[Listener, ListeningAgent]:
        listener = await self.claims.claim(granted or grant(), instance, sequence)
        assert isinstance(listener, Listener), listener
        agent = ListeningAgent(**options)
        link = join_links(listener, agent)
        self.links += [link, agent.link]
        self.registry.attach(listener, link)
        return listener, agent

    async def refused(self, instance: str, sequence: int, granted: ListenerGrant | None = None) -> Outcome:
        refusal = await self.claims.claim(granted or grant(), instance, sequence)
        assert isinstance(refusal, Refusal)
        return refusal.outcome

    def metric(self, line: str) -> bool:
        return f"\ntrunkline_relay_{line}" in generate_latest(self.metrics_registry).decode()

    def reports(self, kind: str) -> list[dict[str, Any]]:
        return [members for reported, members in self.reported if reported == kind]


@pytest.fixture
async def relay() -> AsyncIterator[Fixture]:
    async with Background() as background:
        fixture = Fixture(background)
        yield fixture
        for link in fixture.links:
            link.abort()
        await asyncio.gather(*[link.closed for link in fixture.links])


async def test_an_attached_listener_is_found_by_its_name(relay: Fixture):
    listener, _ = await relay.attach("a", 1)
    assert relay.registry.find("finance", "vm-1") is listener
    assert relay.registry.find("finance", "vm-2") is None
    assert relay.registry.find("sales", "vm-1") is None
    assert listener.current
    assert relay.registry.uses.open == {listener: listener.credential}
    assert relay.metric('links_open{role="listener"} 1.0')
    assert relay.reports("link_attached") == [{"node_id": "nd-vm-1", "workspace_id": "ws-finance"}]


async def test_a_listener_that_is_lost_is_forgotten(relay: Fixture):
    listener, agent = await relay.attach("a", 1)
    agent.link.abort()
    await listener.link.closed
    await asyncio.sleep(0)
    assert relay.registry.find("finance", "vm-1") is None
    assert not listener.current
    assert relay.registry.uses.open == {}
    assert relay.metric('links_open{role="listener"} 0.0')


async def test_a_newer_link_of_the_same_process_supersedes(relay: Fixture):
    old, old_agent = await relay.attach("a", 1)
    new, _ = await relay.attach("a", 2)
    assert relay.registry.find("finance", "vm-1") is new
    assert not old.current
    assert await old_agent.wait_for_notices(1) == [{"type": "superseded"}]
    await old_agent.lost.wait()
    await old.link.closed
    assert relay.registry.find("finance", "vm-1") is new
    assert relay.metric("links_superseded_total 1.0")


async def test_a_strange_process_is_a_clone_of_the_newer_link_once_the_older_is_gone(relay: Fixture):
    old, old_agent = await relay.attach("a", 1)
    new, _ = await relay.attach("a", 2)
    old_agent.link.abort()
    await old.link.closed
    await asyncio.sleep(0)
    assert relay.registry.listeners == {new}
    assert relay.registry.held("nd-vm-1") is new
    assert relay.counts[-1] == 1
    assert await relay.refused("b", 9) is Outcome.CLONE


async def test_the_calls_of_a_superseded_link_finish(relay: Fixture):
    old, old_agent = await relay.attach("a", 1)
    old_agent.status = 0
    old.notify("retry_after", retry_after_seconds=1)
    await old_agent.wait_for_notices(1)
    await relay.attach("a", 2)
    await old_agent.wait_for_notices(2)
    assert not old.link.lost
    assert old.link.streams == 2


async def test_a_node_collects_no_links_by_dialling_again_and_again(relay: Fixture):
    attached = []
    for sequence in range(MOST_OF_A_NODE + 4):
        listener, agent = await relay.attach("a", sequence)
        agent.status = 0  # it answers no call, so that each of its links has one to finish
        listener.notify("retry_after", retry_after_seconds=1)
        await agent.wait_for_notices(1)
        attached.append(listener)
    await asyncio.sleep(0)
    assert [listener.link.lost for listener in attached] == [True] * 3 + [False] * (MOST_OF_A_NODE + 1)
    assert relay.registry.listeners == set(attached[3:])
    assert relay.registry.find("finance", "vm-1") is attached[-1]


@pytest.mark.parametrize("sequence", [1, 2])
async def test_a_late_link_of_the_same_process_is_refused(relay: Fixture, sequence):
    listener, _ = await relay.attach("a", 2)
    assert await relay.refused("a", sequence) is Outcome.SUPERSEDED
    assert relay.registry.find("finance", "vm-1") is listener
    assert relay.metric('link_refusals_total{outcome="superseded"} 1.0')


async def test_another_process_is_a_clone_while_the_first_answers(relay: Fixture):
    listener, _ = await relay.attach("a", 1)
    assert await relay.refused("b", 7) is Outcome.CLONE
    assert relay.registry.find("finance", "vm-1") is listener
    assert listener.current
    assert relay.metric("clone_alarms_total 1.0")
    assert relay.reports("clone_alarm") == [{"node_id": "nd-vm-1", "workspace_id": "ws-finance", "instance": "b"}]


async def test_a_clone_that_tries_again_and_again_is_an_alarm_now_and_then(relay: Fixture):
    await relay.attach("a", 1)
    for number in range(12):
        assert await relay.refused(f"b-{number}", 7) is Outcome.CLONE
    assert relay.metric("clone_alarms_total 12.0")
    assert len(relay.reports("clone_alarm")) == 5


async def test_another_process_wins_when_the_first_has_said_goodbye(relay: Fixture):
    listener, agent = await relay.attach("a", 1)
    agent.link.go_away()
    await agent.link.ping()
    assert relay.registry.find("finance", "vm-1") is None
    assert not listener.current
    other, _ = await relay.attach("b", 1)
    assert relay.registry.find("finance", "vm-1") is other


async def test_another_process_wins_when_the_first_does_not_answer(relay: Fixture):
    listener, agent = await relay.attach("a", 1)
    agent.link._transport.pause_reading()
    other, _ = await relay.attach("b", 1)
    assert relay.registry.find("finance", "vm-1") is other
    assert listener.link.lost
    assert not relay.reports("clone_alarm")


async def test_a_second_stranger_does_not_share_the_first_ones_ping(relay: Fixture):
    _, agent = await relay.attach("a", 1)
    agent.link._transport.pause_reading()
    first = asyncio.create_task(relay.claims.claim(grant(), "b", 1))
    await asyncio.sleep(0)
    assert await relay.refused("c", 1) is Outcome.OVER_QUOTA
    assert isinstance(await first, Listener)


async def test_a_node_may_dial_again_while_a_stranger_is_decided_on(relay: Fixture):
    await relay.attach("a", 1)
    stranger = asyncio.create_task(relay.refused("b", 1))
    await asyncio.sleep(0)
    newer, _ = await relay.attach("a", 2)
    assert await stranger is Outcome.CLONE
    assert relay.registry.find("finance", "vm-1") is newer


async def test_after_a_clone_was_refused_another_process_can_still_win(relay: Fixture):
    _, agent = await relay.attach("a", 1)
    assert await relay.refused("b", 1) is Outcome.CLONE
    assert await relay.refused("b", 2) is Outcome.CLONE
    agent.link._transport.pause_reading()
    other, _ = await relay.attach("b", 3)
    assert relay.registry.find("finance", "vm-1") is other


async def test_a_name_given_to_another_node_leads_to_the_newer(relay: Fixture):
    await relay.attach("a", 1)
    renamed = grant()._replace(node_id="nd-other")
    listener, _ = await relay.attach("b", 1, renamed)
    assert relay.registry.find("finance", "vm-1") is listener


async def test_links_of_a_workspace_are_bounded(relay: Fixture):
    for number in range(3):
        await relay.attach("a", 1, grant(f"vm-{number}"))
    assert await relay.refused("a", 1, grant("vm-9")) is Outcome.OVER_QUOTA
    await relay.attach("a", 1, grant("vm-9", "sales"))
    await relay.attach("a", 2, grant("vm-1"))


async def test_a_link_that_is_gone_leaves_its_room_in_the_workspace(relay: Fixture):
    for number in range(9):
        listener, agent = await relay.attach("a", 1, grant(f"vm-{number}"))
        agent.link.abort()
        await listener.link.closed
        await asyncio.sleep(0)
        relay.registry.detach(listener)
    assert relay.registry.listeners == frozenset()
    assert relay.counts[-1] == 0
    assert relay.reports("link_detached")[-1] == {"node_id": "nd-vm-8", "workspace_id": "ws-finance"}
    assert relay.metric('links_open{role="listener"} 0.0')
    for number in range(3):
        await relay.attach("a", 2, grant(f"vm-{number}"))
    assert await relay.refused("a", 2, grant("vm-9")) is Outcome.OVER_QUOTA


class Sender:
    """What owns a sender's link."""

    link: Link
    kind = UseKind.SENDER
    towards = None

    def cut(self, outcome: Outcome) -> None: ...


async def test_sender_links_count_too(relay: Fixture):
    granted = SenderGrant(Credential(None, subject="x", ends_at=0), "ws-finance")
    senders = [Sender() for _ in range(4)]
    refusals = [relay.registry.attach_sender(sender, granted) for sender in senders]
    assert [refusal is None for refusal in refusals] == [True, True, True, False]
    assert relay.registry.uses.open == dict.fromkeys(senders[:3], granted.credential)
    for sender in senders:
        relay.registry.detach_sender(sender)
        relay.registry.detach_sender(sender)
    assert relay.metric('links_open{role="sender"} 0.0')
    assert relay.registry.uses.open == {}
    await relay.attach("a", 1)
    control_plane = SenderGrant(Credential(None, subject="x", ends_at=0), None)
    assert all(relay.registry.attach_sender(Sender(), control_plane) is None for _ in range(9))


async def test_trust_goes_down_every_link_and_to_those_that_come(relay: Fixture):
    _, first = await relay.attach("a", 1)
    relay.registry.push_trust("jws-1")
    _, second = await relay.attach("a", 1, grant("vm-2"))
    expected = [{"type": "trust_document", "trust_document": "jws-1"}]
    assert await first.wait_for_notices(1) == expected
    assert await second.wait_for_notices(1) == expected


async def test_only_the_newest_document_waits_behind_one_that_is_on_its_way(relay: Fixture):
    listener, agent = await relay.attach("a", 1)
    relay.registry.push_trust("jws-0")
    await asyncio.sleep(0)
    assert listener.link.streams == 1
    for number in range(1, 5):
        relay.registry.push_trust(f"jws-{number}")
    notices = await agent.wait_for_notices(2)
    assert [notice["trust_document"] for notice in notices] == ["jws-0", "jws-4"]


async def test_a_document_begins_with_a_few_listeners_in_a_turn(relay: Fixture):
    attached = [await relay.attach("a", 1, grant(f"vm-{number}", f"team-{number}")) for number in range(12)]
    document = "x" * 200_000
    relay.registry.push_trust(document)
    await asyncio.sleep(0)
    assert sum(listener.link.streams for listener, _ in attached) <= MOST_IN_A_TURN
    for _, agent in attached:
        assert (await agent.wait_for_notices(1))[0]["trust_document"] == document


async def test_a_large_document_waits_for_credit(relay: Fixture):
    _, agent = await relay.attach("a", 1)
    document = "x" * 3_000_000
    relay.registry.push_trust(document)
    notices = await agent.wait_for_notices(1)
    assert notices[0]["trust_document"] == document


async def test_a_listener_that_knows_no_notices_costs_nothing_else(relay: Fixture):
    listener, agent = await relay.attach("a", 1, status=404)
    relay.registry.push_trust("jws")
    await agent.wait_for_notices(1)
    await agent.link.ping()
    await listener.link.ping()
    assert relay.metric('notices_total{result="refused",type="trust_document"} 1.0')
    assert listener.current
    assert listener.link.streams == 0


async def test_a_token_is_renewed_over_the_link(relay: Fixture):
    listener, agent = await relay.attach("a", 1)
    assert await agent.put_token("new-token") == 204
    assert listener.token_expires_at == 2e12
    assert relay.registry.uses.open[listener].subject == "new-token"
    assert relay.metric("listen_tokens_renewed_total 1.0")
    relay.refusal = Refusal(Outcome.BAD_TOKEN, "no")
    assert await agent.put_token("other") == 401
    assert relay.registry.uses.open[listener].subject == "new-token"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"PUT /v1/other HTTP/1.1\r\nHost: link.internal\r\nContent-Length: 1\r\n\r\nx", 404),
        (b"PUT /v1/token HTTP/1.1\r\nHost: vm-1.finance.trunk.internal\r\nContent-Length: 1\r\n\r\nx", 404),
        (b"GET /v1/token HTTP/1.1\r\nHost: link.internal\r\n\r\n", 405),
        (b"PUT /v1/token HTTP/1.1\r\nHost: link.internal\r\n\r\n", 400),
        (b"PUT /v1/token HTTP/1.1\r\nHost: link.internal\r\nContent-Length: 5000\r\n\r\n", 400),
        (b"PUT /v1/token HTTP/1.1\r\nHost: link.internal\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"PUT /v1/token HTTP/1.1\r\nHost: link.internal\r\nContent-Length: 1\r\n\r\nxy", 400),
        (b"\x00\x01\x02", 400),
        (b"PUT /v1/token HTTP/1.1\nHost: link.internal\n\n", 400),
    ],
)
async def test_other_control_exchanges_are_refused(relay: Fixture, request_, status):
    listener, agent = await relay.attach("a", 1)
    assert await agent.request(request_) == status
    await agent.link.ping()
    assert listener.current


async def test_a_control_exchange_may_come_byte_by_byte(relay: Fixture):
    _, agent = await relay.attach("a", 1)
    stream = agent.link.open()
    for byte in b"PUT /v1/token HTTP/1.1\r\nHost: link.internal\r\nContent-Length: 3\r\n\r\nabc":
        stream.write(bytes([byte]))
        await agent.link.ping()
    assert relay.metric("listen_tokens_renewed_total 1.0")


async def test_an_expired_link_is_drained(relay: Fixture):
    listener, agent = await relay.attach("a", 1, grant(ends_at=100.0))
    other, _ = await relay.attach("a", 1, grant("vm-2", ends_at=200.0))
    relay.registry.drain_expired(100.0)
    assert relay.registry.find("finance", "vm-1") is None
    assert await agent.wait_for_notices(1) == [{"type": "draining"}]
    await agent.lost.wait()
    assert relay.registry.find("finance", "vm-2") is other
    assert relay.metric("listen_tokens_expired_total 1.0")
    await listener.link.closed
    relay.registry.drain_expired(199.0)
    assert other.current
    relay.registry.drain_expired(200.0)
    assert not other.current


async def test_draining_tells_everybody_and_refuses_newcomers(relay: Fixture):
    listener, agent = await relay.attach("a", 1)
    relay.registry.announce_drain()
    assert await agent.wait_for_notices(1) == [{"type": "draining"}]
    await listener.link.ping()
    assert agent.goodbyes == 0
    assert relay.registry.find("finance", "vm-1") is listener
    assert await relay.refused("a", 2) is Outcome.DRAINING
    assert await relay.refused("x", 2, grant("vm-2")) is Outcome.DRAINING


async def test_short_of_memory_it_takes_no_newcomers(relay: Fixture):
    listener, _ = await relay.attach("a", 1)
    relay.registry.shedding = True
    assert await relay.refused("x", 2, grant("vm-2")) is Outcome.OVERLOADED
    assert relay.registry.find("finance", "vm-1") is listener
    senders, own = (SenderGrant(Credential(None, subject="x", ends_at=0), whose) for whose in ("ws-finance", None))
    refusal = relay.registry.attach_sender(Sender(), senders)
    assert refusal is not None
    assert refusal.outcome is Outcome.OVERLOADED
    assert relay.registry.attach_sender(Sender(), own) is None, "the control plane's own"
    relay.registry.shedding = False
    await relay.attach("x", 2, grant("vm-2"))


async def test_a_cut_ends_the_link_and_its_use(relay: Fixture):
    listener, agent = await relay.attach("a", 1)
    cut = relay.registry.uses.cut(lambda _, __: Refusal(Outcome.REVOKED, "revoked"))
    assert len(cut) == 1
    await agent.lost.wait()
    await listener.link.closed
    assert relay.registry.find("finance", "vm-1") is None
