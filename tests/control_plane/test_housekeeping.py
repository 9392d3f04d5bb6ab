"""Housekeeping: what ran out is forgotten, what did not is kept, and the trust document tells of it by a new number."""

from pathlib import Path

import pytest
from sqlalchemy import func, insert, select, update

from control_plane.storage import audit, certificates, forgetting, health, kept_outputs
from control_plane.storage.commands import CommandKey
from control_plane.storage.errors import StorageError
from control_plane.storage.records.audit import AuditEvent
from control_plane.storage.records.certificates import Certificate
from control_plane.storage.records.commands import Command, CommandEvent, KeptOutput, Submission
from control_plane.storage.records.joining import Challenge, IssuedAnswer, JoinToken
from control_plane.storage.records.nodes import HealthObservation
from control_plane.storage.records.relays import Relay
from control_plane.storage.records.trust import Revocation
from tests.support.control_planes import RunningControlPlane, running_control_plane, settings_for
from trunkline.runtime.clock import ManualClock, SystemClock

DAY = 86_400.0


class OffsetClock(SystemClock):
    """The machine's clock, moved forwards by the test."""

    __slots__ = ("offset",)

    def __init__(self) -> None:
        self.offset = 0.0

    def now(self) -> float:
        return super().now() + self.offset


async def counts(plane: RunningControlPlane) -> dict[str, int]:
    tables = (Challenge, IssuedAnswer, JoinToken, Certificate, Revocation, Command)
    async with plane.database.read() as session:
        return {
            table.__tablename__: (await session.scalars(select(func.count()).select_from(table))).one()
            for table in tables
        }


async def test_what_ran_out_is_forgotten(tmp_path: Path):
    clock = OffsetClock()
    async with running_control_plane(tmp_path, clock=clock) as plane:
        await plane.node("vm-1")
        await plane.ok("POST", "/w/finance/api/2.0/commands", {"target": {"node": "vm-1"}, "argv": ["true"]})
        await plane.ok("POST", "/api/2.0/revocations", {"kind": "token", "id": "t"})
        await plane.ok("POST", "/api/2.0/revocations", {"kind": "workspace", "id": "ws-" + "a" * 20})
        await plane.ok("DELETE", "/w/finance/api/2.0/nodes/vm-1")
        await plane.nonce()
        sequence = plane.control_plane.identities.trust.sequence
        before = await counts(plane)
        assert before == {
            "challenges": 1,
            "issued_answers": 1,
            "join_tokens": 1,
            "certificates": 1,
            "revocations": 3,
            "commands": 1,
        }
        await plane.control_plane.housekeeping.clean()
        assert await counts(plane) == before
        assert plane.control_plane.identities.trust.sequence == sequence
        clock.offset = 40 * DAY
        await plane.control_plane.housekeeping.clean()
        assert await counts(plane) == {
            "challenges": 0,
            "issued_answers": 0,
            "join_tokens": 0,
            "certificates": 0,
            "revocations": 1,
            "commands": 0,
        }
        assert plane.control_plane.identities.trust.sequence == sequence + 1


async def test_commands_are_kept_for_as_long_whatever_the_clock_of_their_node_says(tmp_path: Path):
    clock = OffsetClock()
    async with running_control_plane(tmp_path, clock=clock) as plane:
        await plane.node("vm-1")
        for said in (None, 0, 2**52):
            body = {"command_id": f"c-{said}", "target": {"node": "vm-1"}, "argv": ["true"]}
            await plane.ok("POST", "/w/finance/api/2.0/commands", body)
            async with plane.database.write() as session:
                ended = update(Command).where(Command.command_id == f"c-{said}")
                await session.execute(ended.values(final=True, state="SUCCEEDED", end_time=said))
        await plane.control_plane.housekeeping.clean()
        assert (await counts(plane))["commands"] == 3
        clock.offset = 40 * DAY
        await plane.control_plane.housekeeping.clean()
        assert (await counts(plane))["commands"] == 0


async def of_commands(plane: RunningControlPlane) -> dict[str, int]:
    async with plane.database.read() as session:
        return {
            table.__tablename__: (await session.scalars(select(func.count()).select_from(table))).one()
            for table in (Submission, Command, CommandEvent, KeptOutput)
        }


async def ended_command(plane: RunningControlPlane, command_id: str) -> CommandKey:
    """Record a command, its events and a kept output with its file, as they are once it has ended."""
    body = {"command_id": command_id, "target": {"node": "vm-1"}, "argv": ["true"]}
    await plane.ok("POST", "/w/finance/api/2.0/commands", body)
    async with plane.database.write() as session:
        command = (await session.scalars(select(Command).where(Command.command_id == command_id))).one()
        command.final, command.state, command.end_time = True, "SUCCEEDED", command.submit_time
        kept_outputs.want(session, command, 0)
        key = CommandKey(command.workspace_id, command_id)
    plane.control_plane.fleet.commands.kept._files.write(key, b"kept")
    return key


def file_of(plane: RunningControlPlane, key: CommandKey) -> Path:
    return plane.settings.outputs_directory / key.workspace_id / key.command_id


async def test_with_a_command_goes_all_that_belongs_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(forgetting, "BATCH", 2)
    clock = OffsetClock()
    async with running_control_plane(tmp_path, clock=clock) as plane:
        await plane.node("vm-1")
        old = [await ended_command(plane, f"old-{number}") for number in range(5)]
        clock.offset = 40 * DAY
        young = await ended_command(plane, "young")
        await plane.control_plane.housekeeping.clean()
        assert await of_commands(plane) == {"submissions": 1, "commands": 1, "command_events": 1, "kept_outputs": 1}
        assert [file_of(plane, key).exists() for key in (*old, young)] == [False] * 5 + [True]


async def test_what_a_deleted_workspace_leaves_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(forgetting, "BATCH", 1)
    monkeypatch.setattr(forgetting, "EVENT_BATCH", 1)
    async with running_control_plane(tmp_path) as plane:
        await plane.node("vm-1")
        keys = [await ended_command(plane, f"c-{number}") for number in range(3)]
        await plane.ok("DELETE", f"{plane.account}/workspaces/finance")
        await plane.control_plane.removal.finish()
        assert set((await of_commands(plane)).values()) == {0}
        assert not any(file_of(plane, key).exists() for key in keys)


async def test_old_observations_go_in_pieces_and_young_ones_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(health, "BATCH", 2)
    async with running_control_plane(tmp_path) as plane:
        node = await plane.node("vm-1")
        young = int(SystemClock().now() * 1000)
        times = [*range(5), young]
        rows = [{"node_id": node.node_id, "time": time, "state": "ready", "result": "ok"} for time in times]
        async with plane.database.write() as session:
            await session.execute(insert(HealthObservation), rows)
        async with plane.database.write() as session:
            assert await health.remove_old(session, young)
        assert await observed(plane) == [*times[2:]]
        await plane.control_plane.housekeeping.clean()
        assert await observed(plane) == [young]


async def test_expired_certificates_go_in_pieces_and_others_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(certificates, "BATCH", 2)
    async with running_control_plane(tmp_path) as plane:
        await plane.node("vm-1")
        columns = {"subject_kind": "node", "subject_id": "nd-1", "origin": "renewal", "csr_sha256": "c", "chain": "c"}
        rows = [{"serial": f"old-{n}", "issue_time": 0, "expire_time": 1, **columns} for n in range(5)]
        async with plane.database.write() as session:
            await session.execute(insert(Certificate), rows)
        async with plane.database.write() as session:
            assert await certificates.remove_expired(session, 2)
        assert (await counts(plane))["certificates"] == 1 + 3
        await plane.control_plane.housekeeping.clean()
        assert (await counts(plane))["certificates"] == 1


async def audited(plane: RunningControlPlane) -> list[str]:
    async with plane.database.read() as session:
        return list(await session.scalars(select(AuditEvent.action).order_by(AuditEvent.event_id)))


@pytest.mark.parametrize("keep_days", [None, 90])
async def test_audit_events_are_kept_for_as_long_as_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep_days: int | None
):
    monkeypatch.setattr(audit, "REMOVED_AT_ONCE", 2)
    settings = settings_for(tmp_path, audit={"keep_days": keep_days})
    async with running_control_plane(tmp_path, settings=settings) as plane:
        before, now_ms = await audited(plane), int(SystemClock().now() * 1000)
        ages = {"of-200-days": 200, "of-92-days": 92, "of-91-days": 91, "of-90-days": 90.1, "of-89-days": 89}
        rows = [
            {"time": int(now_ms - days * DAY * 1000), "actor": "a", "action": name, "outcome": "ok", "details": {}}
            for name, days in ages.items()
        ]
        async with plane.database.write() as session:
            await session.execute(insert(AuditEvent), rows)
        await plane.control_plane.housekeeping.clean()
        if keep_days is None:
            assert await audited(plane) == [*before, *ages]
            return
        assert await audited(plane) == [*before, "of-89-days", "audit.forget"]
        await plane.control_plane.housekeeping.clean()
        assert await audited(plane) == [*before, "of-89-days", "audit.forget"]


async def test_what_is_forgotten_of_the_audit_is_a_days_worth_at_once(tmp_path: Path):
    settings = settings_for(tmp_path, audit={"keep_days": 90})
    async with running_control_plane(tmp_path, settings=settings) as plane:
        time_ms = int((SystemClock().now() - 90.9 * DAY) * 1000)
        async with plane.database.write() as session:
            session.add(AuditEvent(time=time_ms, actor="a", action="waits", outcome="ok", details={}))
        await plane.control_plane.housekeeping.clean()
        assert "waits" in await audited(plane)


async def test_a_database_whose_clock_is_far_behind_forgets_nothing_of_the_audit(tmp_path: Path):
    clock = OffsetClock()
    settings = settings_for(tmp_path, audit={"keep_days": 90})
    async with running_control_plane(tmp_path, clock=clock, settings=settings) as plane:
        before = await audited(plane)
        clock.offset = 95 * DAY
        with pytest.raises(StorageError, match="clock"):
            await plane.control_plane.housekeeping.clean()
        assert await audited(plane) == before


async def observed(plane: RunningControlPlane) -> list[int]:
    async with plane.database.read() as session:
        return list(await session.scalars(select(HealthObservation.time).order_by(HealthObservation.observation_id)))


async def test_nodes_that_never_confirmed_are_forgotten(tmp_path: Path):
    clock = OffsetClock()
    async with running_control_plane(tmp_path, clock=clock) as plane:
        await plane.node("confirmed")
        body, _ = await plane.bootstrap_body(await plane.join_token(), node_name="not-confirmed")
        await plane.ok("POST", "/api/2.0/bootstrap", body, token=None)
        clock.offset = 9 * DAY
        await plane.control_plane.housekeeping.clean()
        assert [one["node"] for one in (await plane.ok("GET", "/w/finance/api/2.0/nodes"))["nodes"]] == ["confirmed"]


async def test_a_clock_that_jumps_makes_nothing_forgotten_for_a_day(tmp_path: Path):
    clock = ManualClock()
    async with running_control_plane(tmp_path, clock=clock) as plane:
        housekeeping = plane.control_plane.housekeeping
        assert housekeeping.trusts_the_clock()
        clock.advance(86_400)
        assert housekeeping.trusts_the_clock()
        clock.jump(90 * DAY)
        assert not housekeeping.trusts_the_clock()
        clock.jump(-90 * DAY)
        clock.advance(DAY - 1)
        assert not housekeeping.trusts_the_clock()
        clock.advance(DAY)
        assert housekeeping.trusts_the_clock()
        clock.jump(120)
        assert housekeeping.trusts_the_clock()


@pytest.mark.parametrize("ahead_seconds", [365 * DAY, -365 * DAY])
async def test_a_clock_that_is_wrong_at_the_start_is_not_believed_for_a_day(tmp_path: Path, ahead_seconds: float):
    """As on a machine that boots before it is given the time."""
    async with running_control_plane(tmp_path) as plane:
        await plane.workspace()
        await plane.control_plane.housekeeping.begin()
        assert plane.control_plane.housekeeping.trusts_the_clock()
    clock = ManualClock(now=SystemClock().now() + ahead_seconds)
    async with running_control_plane(tmp_path, clock=clock) as plane:
        housekeeping = plane.control_plane.housekeeping
        await housekeeping.begin()
        assert not housekeeping.trusts_the_clock()
        clock.advance(DAY - 1)
        assert not housekeeping.trusts_the_clock()
        clock.advance(2)
        assert housekeeping.trusts_the_clock()


async def test_whoever_was_heard_of_confirms_the_clock_at_the_start(tmp_path: Path):
    """Where little happens, events are rare, and a control plane that is restarted every night has to forget too."""
    clock = ManualClock(now=SystemClock().now())
    async with running_control_plane(tmp_path, clock=clock) as plane:
        await plane.relay()
        clock.advance(2 * DAY)
        assert await plane.control_plane.housekeeping.begin() == pytest.approx(2 * DAY, abs=5)
        async with plane.database.write() as session:
            await session.execute(update(Relay).values(last_seen_time=int((clock.now() - 60) * 1000)))
            session.add(audit_event(clock.now() + 3650 * DAY))
        assert await plane.control_plane.housekeeping.begin() == pytest.approx(60, abs=5)


def audit_event(now: float) -> AuditEvent:
    """An event that a clock which was ahead has left."""
    return AuditEvent(time=int(now * 1000), actor="a", action="b", outcome="ok", details={})
