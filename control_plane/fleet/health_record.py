"""What the health monitor writes down: the last verdict of each node, and observations for its history."""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.fleet.health_check import Check
from control_plane.fleet.health_states import NodeState
from control_plane.fleet.node_commands import NodeAddress
from control_plane.storage import nodes, trust_reports
from control_plane.storage.database import Database
from control_plane.storage.records.nodes import HealthObservation, Node
from control_plane.storage.text import storable
from trunkline.runtime.clock import Clock

MOST_UNWRITTEN = 20_000
LONGEST_VERSION = 64
LONGEST_ID = 128
NODES_AT_ONCE = 250


@dataclass(frozen=True, slots=True)
class Finding:
    """A check and the state after it; `changed` says that the state is another than before."""

    state: NodeState
    check: Check
    changed: bool


@dataclass(frozen=True, slots=True)
class NodeChanges:
    """The ids of nodes that have come, and of those that have gone."""

    come: list[str]
    gone: list[str]


@dataclass(slots=True)
class _Unwritten:
    finding: Finding
    time_ms: int
    changed_ms: int | None


class HealthRecord:
    """Keeps findings until the next flush; of each node the last one, and that its state changed."""

    def __init__(self, *, database: Database, clock: Clock, history_interval_seconds: float) -> None:
        self._database = database
        self._clock = clock
        self._history_interval_ms = int(history_interval_seconds * 1000)
        self._unwritten: dict[str, _Unwritten] = {}
        self._observed_ms: dict[str, int] = {}
        self._seen_ids, self._seen = "", 0

    async def changes(self, known: Collection[str]) -> NodeChanges:
        """Return which nodes have come and gone; those of workspaces that are being removed have gone.

        As long as nobody has, it takes the same few milliseconds, however many nodes there are.

        Args:
            known: the ids of those that there were, by what was returned before as far as it was followed.
        """
        async with self._database.read() as session:
            text = await nodes.all_ids(session)
        if text == self._seen_ids and len(known) == self._seen:
            return NodeChanges([], [])
        await asyncio.sleep(0)
        ids = text.split()
        await asyncio.sleep(0)
        come = [node_id for node_id in ids if node_id not in known]
        if len(known) + len(come) == len(ids):
            self._seen_ids, self._seen = text, len(ids)
            return NodeChanges(come, [])
        await asyncio.sleep(0)
        there = set(ids)
        self._observed_ms = {node_id: at for node_id, at in self._observed_ms.items() if node_id in there}
        await asyncio.sleep(0)
        return NodeChanges(come, [node_id for node_id in known if node_id not in there])

    async def addresses(self, node_ids: Collection[str]) -> list[NodeAddress]:
        """Return those of these nodes that there still are, with their workspaces; not with what they said last.

        A few hundred are read at a time, so that everybody else has a turn between them.
        """
        found: list[NodeAddress] = []
        ids = list(node_ids)
        for start in range(0, len(ids), NODES_AT_ONCE):
            async with self._database.read() as session:
                found += [
                    NodeAddress(*place) for place in await nodes.places(session, ids[start : start + NODES_AT_ONCE])
                ]
            await asyncio.sleep(0)
        return found

    def note(self, node_id: str, finding: Finding) -> None:
        """Remember a finding for the next flush."""
        now_ms = int(self._clock.now() * 1000)
        before = self._unwritten.get(node_id)
        if before is None and len(self._unwritten) >= MOST_UNWRITTEN:
            return
        changed_ms = now_ms if finding.changed else (before.changed_ms if before is not None else None)
        self._unwritten[node_id] = _Unwritten(finding, now_ms, changed_ms)

    async def flush(self) -> None:
        """Write everything down, a few hundred nodes in a transaction; what cannot be is kept for the next time.

        Raises:
            StorageError: not everything was written.
        """
        batch, self._unwritten = self._unwritten, {}
        ids = list(batch)
        for start in range(0, len(ids), NODES_AT_ONCE):
            try:
                await self._flush({one: batch[one] for one in ids[start : start + NODES_AT_ONCE]})
            except BaseException:
                self._unwritten = {one: batch[one] for one in ids[start:]} | self._unwritten
                raise

    async def _flush(self, batch: Mapping[str, _Unwritten]) -> None:
        async with self._database.write() as session:
            known = set((await session.scalars(select(Node.node_id).where(Node.node_id.in_(batch)))).all())
            found = {node_id: unwritten for node_id, unwritten in batch.items() if node_id in known}
            observed = [node_id for node_id, unwritten in found.items() if self._is_for_history(node_id, unwritten)]
            await _write(session, found)
            if observed:
                rows = [_observation(node_id, found[node_id]) for node_id in observed]
                await session.execute(insert(HealthObservation), rows)
        self._observed_ms |= {node_id: batch[node_id].time_ms for node_id in observed}

    def _is_for_history(self, node_id: str, unwritten: _Unwritten) -> bool:
        last = self._observed_ms.get(node_id)
        due = last is None or unwritten.time_ms - last >= self._history_interval_ms
        return due or unwritten.changed_ms is not None


async def _write(session: AsyncSession, some: Mapping[str, _Unwritten]) -> None:
    """Write down what was found of some nodes, by as few statements for hundreds as for one."""
    await nodes.update_all(session, {node_id: _columns(unwritten) for node_id, unwritten in some.items()})
    reports = [(_adoption(node_id, unwritten), unwritten.time_ms) for node_id, unwritten in some.items()]
    await trust_reports.record_all(session, [(said, at_ms) for said, at_ms in reports if said is not None])


def _columns(unwritten: _Unwritten) -> dict[str, object]:
    """Return what the finding changes in the node's row."""
    finding = unwritten.finding
    columns: dict[str, object] = {"state": finding.state.value, "state_reason": finding.check.reason}
    if unwritten.changed_ms is not None:
        columns["state_time"] = unwritten.changed_ms
    if finding.check.result.answered:
        columns |= {"last_seen_time": unwritten.time_ms, "relay_id": finding.check.relay_id}
    health = finding.check.health
    if health is not None:
        columns |= {"health": health, "health_time": unwritten.time_ms}
        version, sequence = health.get("agent_version"), health.get("trust_sequence")
        if isinstance(version, str) and version:
            columns["agent_version"] = storable(version, LONGEST_VERSION)
        if type(sequence) is int and 0 <= sequence < 2**53:
            columns["trust_sequence"] = sequence
    return columns


def _adoption(node_id: str, unwritten: _Unwritten) -> trust_reports.Reported | None:
    """Return what the node says of the trust that it holds, if it says anything."""
    health = unwritten.finding.check.health or {}
    sequence = health.get("trust_sequence")
    if type(sequence) is not int or not 0 <= sequence < 2**53:
        return None
    root, token_key = _stated_id(health, "certificate_root"), _stated_id(health, "listen_token_key")
    return trust_reports.Reported(trust_reports.NODE, node_id, sequence, root, token_key)


def _stated_id(health: dict[str, Any], member: str) -> str | None:
    value = health.get(member)
    return storable(value, LONGEST_ID) if isinstance(value, str) and 0 < len(value) <= LONGEST_ID else None


def _observation(node_id: str, unwritten: _Unwritten) -> dict[str, object]:
    """Return the columns of a row of the history."""
    check = unwritten.finding.check
    return {
        "node_id": node_id,
        "time": unwritten.time_ms,
        "state": unwritten.finding.state.value,
        "result": check.result.value,
        "reason": check.reason,
        "rtt_milliseconds": int(check.rtt_seconds * 1000) if check.rtt_seconds is not None else None,
    }
