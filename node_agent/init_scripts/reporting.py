"""Tells the control plane how the initialisation stands: the newest state, over mTLS, until it is taken."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

from node_agent.identity.control_plane import NEVER_TAKEN, ControlPlane
from node_agent.identity.credentials import Credentials
from node_agent.init_scripts.record import InitRecord
from trunkline.client.control_plane_answers import ControlPlaneRefused, ControlPlaneUnreachable
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger

REPORT_PATH = "/api/2.0/nodes/self/init/report"
BACKOFF_CAP_SECONDS = 60.0


class InitReporting:
    """Sends reports. Each holds the whole state, so that only the newest matters."""

    def __init__(
        self,
        *,
        control_plane: ControlPlane,
        credentials: Credentials,
        clock: Clock,
        rng: random.Random,
        log: Logger,
        taken: Callable[[], Awaitable[None]],
    ) -> None:
        self._control_plane = control_plane
        self._credentials = credentials
        self._clock = clock
        self._log = log
        self._taken = taken
        self._backoff = Backoff(rng, cap_seconds=BACKOFF_CAP_SECONDS)
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """Send the state soon; it has changed."""
        self._changed.set()

    def again(self, record: InitRecord) -> None:
        """Send the state once more: the control plane does not know it any more."""
        record.sequence += 1
        self._changed.set()

    async def send_all(self, record: InitRecord) -> None:
        """Send the state of `record` whenever it has changed, until cancelled; `record.reported` follows."""
        while True:
            if record.reported < record.sequence:
                await self._send(record)
                continue
            self._changed.clear()
            await self._changed.wait()

    async def _send(self, record: InitRecord) -> None:
        sequence = record.sequence
        try:
            await self._control_plane.call(REPORT_PATH, _document(record), identity=self._credentials.current.identity)
        except ControlPlaneRefused as error:
            if error.status not in NEVER_TAKEN:
                await self._pause(str(error))
                return
            self._log.warning("init.report_refused", reason=str(error))
        except ControlPlaneUnreachable as error:
            await self._pause(str(error))
            return
        self._backoff.reset()
        record.reported = sequence
        await self._taken()

    async def _pause(self, reason: str) -> None:
        self._log.debug("init.report_not_taken", reason=reason)
        await asyncio.sleep(self._backoff.next_delay_seconds(self._clock.monotonic(), at_least_seconds=0.5))


def _document(record: InitRecord) -> dict[str, Any]:
    document: dict[str, Any] = {
        "instance": record.instance,
        "run": record.last_run,
        "sequence": record.sequence,
        "state": record.state.value,
        "scripts": [_said(one.document()) for one in record.scripts],
    }
    return document if record.reason is None else document | {"reason": record.reason}


def _said(outcome: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in outcome.items() if name != "name"}
