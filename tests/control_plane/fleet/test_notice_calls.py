"""Notices: one that cannot be sent is lost, whatever the reason, and ends nothing else."""

import shutil
from pathlib import Path

from prometheus_client import CollectorRegistry

from control_plane.fleet.health_record import HealthRecord
from control_plane.fleet.notice_calls import NoticeCalls, one_by_one
from control_plane.fleet.reach import NodeReach, Sender
from control_plane.fleet.secret_notices import SECRET_NOTICE
from control_plane.metrics import ControlPlaneMetrics
from control_plane.storage.database import Database
from tests.support.control_planes import running_control_plane
from trunkline.runtime.clock import SystemClock
from trunkline.runtime.logs import get_logger


def unused(url: str) -> Sender:
    raise AssertionError(f"no relay is known, and {url} least of all")


async def test_a_database_that_cannot_be_read_loses_notices_and_no_more(tmp_path: Path):
    clock = SystemClock()
    (tmp_path / "lost").mkdir()
    lost = Database(f"sqlite+aiosqlite:///{tmp_path / 'lost' / 'x.db'}")
    shutil.rmtree(tmp_path / "lost")
    async with running_control_plane(tmp_path) as plane:
        await plane.node("vm-1")
        record = HealthRecord(database=plane.database, clock=clock, history_interval_seconds=1.0)
        metrics = ControlPlaneMetrics(CollectorRegistry())
        calls = NoticeCalls(
            SECRET_NOTICE,
            reach=NodeReach(database=lost, sender=unused, metrics=metrics, clock=clock),
            issuance=plane.control_plane.identities.issuance,
            name_suffix="trunk.internal",
            clock=clock,
            log=get_logger("test"),
        )
        await calls.tell(one_by_one(await record.addresses((await record.changes(())).come)))
    await lost.close()
