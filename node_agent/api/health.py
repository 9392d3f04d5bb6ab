"""`GET /v1/health` and `GET /v1/metrics`: the state of the machine and of the agent."""

import platform
import time
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from node_agent.api.routing import json_response
from node_agent.checks import Checks, CheckStatus
from node_agent.commands.ledger import CommandLedger
from node_agent.init_scripts.readiness import Readiness
from node_agent.machine import Machine
from trunkline.client.clock_offset import ClockOffset
from trunkline.version import __version__


class HealthApi:
    """Answers how the node is."""

    def __init__(
        self,
        node_id: str,
        machine: Machine,
        checks: Checks,
        ledger: CommandLedger,
        clock_offset: ClockOffset,
        trust_sequence: Callable[[], int],
        standing: Callable[[], Mapping[str, Any]],
        registry: CollectorRegistry,
        readiness: Readiness,
    ) -> None:
        self._node_id = node_id
        self._machine = machine
        self._checks = checks
        self._ledger = ledger
        self._clock_offset = clock_offset
        self._trust_sequence = trust_sequence
        self._standing = standing
        self._registry = registry
        self._readiness = readiness
        self._host = platform.node()

    async def health(self, request: web.Request) -> web.StreamResponse:
        """Answer `GET /v1/health`."""
        return json_response(self.document())

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        """Answer `GET /v1/metrics`."""
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    def document(self) -> dict[str, Any]:
        """Return the node's health; it is degraded while a check of the owner's fails, or the clock is wrong."""
        results = self._checks.results()
        running, queued = self._ledger.counts()
        skewed = self._clock_offset.is_skewed
        degraded = skewed or any(result.status is CheckStatus.FAILED for result in results)
        return {
            "status": "degraded" if degraded else "ok",
            "node_id": self._node_id,
            "host": self._host,
            "agent_version": __version__,
            "uptime_seconds": round(time.clock_gettime(time.CLOCK_BOOTTIME), 3),
            "boot_time": int(self._machine.boot_time * 1000),
            **self._machine.read().document(),
            "clock_offset_seconds": self._clock_offset.seconds,
            "clock_skew": skewed,
            "checks": [result.document() for result in results],
            "trust_sequence": self._trust_sequence(),
            **self._standing(),
            "commands": {"running": running, "queued": queued},
            "init": self._readiness.document(),
        }
