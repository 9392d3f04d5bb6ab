"""Presence: the relay tells the control plane the port that nodes and senders reach it by."""

import asyncio

from relay.control_plane.client import ControlPlaneClient
from trunkline.client.control_plane_answers import ControlPlaneRefused, ControlPlaneUnreachable
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger

PRESENCE_PATH = "/api/2.0/relays/self"


async def announce_port(port: int, *, client: ControlPlaneClient, clock: Clock, backoff: Backoff, log: Logger) -> None:
    """Tell it once; try again until the control plane has heard it."""
    while True:
        try:
            await client.call("PUT", PRESENCE_PATH, {"port": port})
        except (ControlPlaneRefused, ControlPlaneUnreachable) as error:
            log.debug("relay.port_not_recorded", reason=str(error))
            await asyncio.sleep(backoff.next_delay_seconds(clock.monotonic()))
        else:
            log.info("relay.port_recorded", port=port)
            return
