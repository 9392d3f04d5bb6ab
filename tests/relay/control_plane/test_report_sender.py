import asyncio
import random

from prometheus_client import CollectorRegistry

from relay.control_plane.client import ControlPlaneClient
from relay.control_plane.report_sender import REPORTS_PATH, ReportSender
from relay.control_plane.reports import Reports
from relay.metrics import RelayMetrics
from relay.settings import ReportsSettings
from tests.support.identities import IdentityKit, none_ended
from tests.support.scripted_control_plane import ScriptedControlPlane
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.clock import SystemClock
from trunkline.runtime.logs import get_logger


async def test_adoption_of_trust_does_not_wait_for_the_interval(tmp_path):
    kit = IdentityKit(tmp_path)
    control_plane, clock = ScriptedControlPlane(), SystemClock()
    control_plane.answer("POST", REPORTS_PATH, lambda _: (200, {}))
    reports = Reports(settings=ReportsSettings(), metrics=RelayMetrics(CollectorRegistry()), clock=clock)
    async with control_plane.serve(kit.server_tls().context):
        client = ControlPlaneClient(control_plane.url, kit.client_tls(kit.issue_relay()), verdict=none_ended)
        sender = ReportSender(
            client=client, reports=reports, reporter="p1", interval_seconds=3600, clock=clock,
            backoff=Backoff(random.Random(1)), log=get_logger("test.reports"),
        )  # fmt: skip
        task = asyncio.create_task(sender.run())
        reports.add("link_attached", node_id="nd-1")
        reports.add("trust", sequence=7)
        async with asyncio.timeout(30):
            [document] = await control_plane.wait_for(REPORTS_PATH)
        assert [item["type"] for item in document["items"]] == ["link_attached", "trust"]
        reports.add("trust", sequence=8)
        async with asyncio.timeout(30):
            documents = await control_plane.wait_for(REPORTS_PATH, 2)
        assert documents[1]["items"][0]["sequence"] == 8
        task.cancel()
        await asyncio.wait([task])
        await client.close()
