"""Destinations in a request: `<node>.<workspace>.<suffix>[:port]`, and the gateway's paths.

Names are compared as they are written, after lower-casing host names; nothing is decoded, so no escape can make one
name look like another.
"""

import re
from typing import Final, NamedTuple

from relay.credentials import Destination
from trunkline.channel.targets import HTTP_PORT

_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_GATEWAY: Final = re.compile(
    rf"/v1/workspaces/({_LABEL})/nodes/({_LABEL})(?::([1-9][0-9]{{0,4}}))?(/[^?]*)?(\?.*)?".encode("ascii")
)


class GatewayTarget(NamedTuple):
    """What a gateway path names: where to, and the target that goes to the node."""

    destination: Destination
    target: bytes


class NodeNames:
    """The names of nodes under one suffix."""

    __slots__ = ("_host", "_suffix")

    def __init__(self, suffix: str) -> None:
        self._suffix = suffix
        self._host = re.compile(rf"({_LABEL})\.({_LABEL})\.{re.escape(suffix)}".encode("ascii"))

    def destination(self, host: bytes, port: int | None) -> Destination | None:
        """The destination that a lower-case host names; None for hosts that are no node's name."""
        match = self._host.fullmatch(host)
        if match is None:
            return None
        return Destination(match[2].decode("ascii"), match[1].decode("ascii"), port or HTTP_PORT)

    def authority(self, destination: Destination, *, with_port: bool = False) -> bytes:
        """The Host of a destination; port 80 is left out unless `with_port` asks for it."""
        host = f"{destination.node}.{destination.workspace}.{self._suffix}"
        if with_port or destination.port != HTTP_PORT:
            host = f"{host}:{destination.port}"
        return host.encode("ascii")


def gateway_target(path: bytes) -> GatewayTarget | None:
    """Splits `/v1/workspaces/<ws>/nodes/<node>[:port]/<path>`; None for any other target in origin-form."""
    match = _GATEWAY.fullmatch(path)
    if match is None:
        return None
    workspace, node, port, rest, query = match.groups()
    number = int(port) if port is not None else HTTP_PORT
    if number > 65535:
        return None
    destination = Destination(workspace.decode("ascii"), node.decode("ascii"), number)
    return GatewayTarget(destination, (rest or b"/") + (query or b""))
