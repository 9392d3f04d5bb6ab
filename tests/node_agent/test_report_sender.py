import asyncio
import random
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CollectorRegistry

from certs.trust import TrustVerdict
from node_agent.exchanges.watch import Cut
from node_agent.identity.credentials import Credentials
from node_agent.identity.node_identity import IdentityStore
from node_agent.metrics import AgentMetrics
from node_agent.report_sender import REPORTS_PATH, ReportSender
from node_agent.reports import Reports
from node_agent.settings import ReportSettings
from tests.node_agent.identity.conftest import asking, control_plane, make_bootstrap, state
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.clock import SystemClock

__all__ = ["asking", "control_plane", "make_bootstrap", "state"]  # fixtures


@asynccontextmanager
async def sending(make_bootstrap, asking, state, log, **settings):
    node = await make_bootstrap().run()
    reports = Reports(AgentMetrics(CollectorRegistry()), SystemClock())
    sender = ReportSender(
        control_plane=asking,
        credentials=Credentials(node, IdentityStore(state)),
        reports=reports,
        reporter="r-1",
        settings=ReportSettings(**settings),
        clock=SystemClock(),
        rng=random.Random(1),
        log=log,
    )
    sender._backoff = Backoff(random.Random(1), cap_seconds=0.01)
    task = asyncio.ensure_future(sender.run())
    yield reports
    task.cancel()
    await asyncio.wait([task])


def sent(control_plane):
    return [document for path, document in control_plane.asked if path == REPORTS_PATH]


async def test_a_report_is_sent_again_under_its_number_until_it_is_taken(
    make_bootstrap, asking, state, log, control_plane
):
    refusals = [503, 401, 429]
    control_plane.faults[REPORTS_PATH] = [
        lambda document, status=status: web.json_response({"message": "no"}, status=status) for status in refusals
    ]
    async with sending(make_bootstrap, asking, state, log, spread_seconds=0) as reports:
        reports.adopted(3)
        await control_plane.asked_for(REPORTS_PATH, 4)
        assert {document["sequence"] for document in sent(control_plane)} == {sent(control_plane)[0]["sequence"]}
        assert sent(control_plane)[-1]["items"][0]["sequence"] == 3
        reports.adopted(4)
        await control_plane.asked_for(REPORTS_PATH, 5)
        assert sent(control_plane)[-1]["sequence"] > sent(control_plane)[0]["sequence"]


async def test_what_was_cut_is_told_at_once_whatever_the_spread(make_bootstrap, asking, state, log, control_plane):
    async with sending(make_bootstrap, asking, state, log, spread_seconds=600) as reports:
        reports.adopted(3)
        await asyncio.sleep(0.05)
        assert sent(control_plane) == []
        reports.adopted(4, [Cut(TrustVerdict(False, "token", "jti-1"), True)])
        await control_plane.asked_for(REPORTS_PATH)
        assert sent(control_plane)[0]["items"][0]["cuts"] == [
            {"cause": "revocation", "kind": "token", "id": "jti-1", "streams": 1}
        ]


async def test_a_control_plane_that_takes_no_reports_is_left_alone(make_bootstrap, asking, state, log, control_plane):
    control_plane.faults[REPORTS_PATH] = [lambda document: web.json_response({}, status=404)]
    async with sending(make_bootstrap, asking, state, log, spread_seconds=0) as reports:
        reports.adopted(3)
        await control_plane.asked_for(REPORTS_PATH)
        reports.adopted(4)
        await control_plane.asked_for(REPORTS_PATH, 2)
        first, second = sent(control_plane)
        assert second["dropped"] == 1
        assert second["items"][0]["sequence"] == 4
        assert second["sequence"] > first["sequence"]
