"""Destinations in a request: `<node>.<workspace>.<suffix>[:port]`, and the gateway's paths.

Names are compared as they are written, after lower-casing host names; nothing is decoded, so no escape can make one
name look like another.
"""

import re
from typing import Final, NamedTuple

from relay.trust.credentials import Destination
from trunkline.channel.memo import Generations, Memo
from trunkline.channel.targets import HTTP_PORT

_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_GATEWAY: Final = re.compile(rb"(/v1/workspaces/[^/?]++/nodes/[^/?]++)(/[^?]*+)?+(\?.*+)?+")
_SITE: Final = re.compile(rf"/v1/workspaces/({_LABEL})/nodes/({_LABEL})(?::([1-9][0-9]{{0,4}}))?".encode("ascii"))
KNOWN_PLACES: Final = 4096
"""Names of nodes that are remembered in each generation, in either form."""
MAX_KNOWN_NAME_BYTES: Final = 256
MAX_PORT: Final = 65535


class GatewayTarget(NamedTuple):
    """What a gateway path names: where to, and the target that goes to the node."""

    destination: Destination
    target: bytes


class NodeNames:
    """The names of nodes under one suffix; those that come again are not parsed again."""

    __slots__ = ("_authorities", "_host", "_hosts", "_sites", "_suffix")

    def __init__(self, suffix: str) -> None:
        self._suffix = suffix
        self._host = re.compile(rf"({_LABEL})\.({_LABEL})\.{re.escape(suffix)}".encode("ascii"))
        self._hosts: Generations[tuple[bytes, int | None], Destination] = Generations(KNOWN_PLACES)
        self._authorities: Generations[Destination, bytes] = Generations(KNOWN_PLACES)
        self._sites = Memo(_site, generation_entries=KNOWN_PLACES, max_key_bytes=MAX_KNOWN_NAME_BYTES)

    def age(self) -> None:
        """Has names that nobody uses any more forgotten."""
        self._hosts.age()
        self._authorities.age()
        self._sites.age()

    def destination(self, host: bytes, port: int | None) -> Destination | None:
        """The destination that a lower-case host names; None for hosts that are no node's name."""
        known = self._hosts.get((host, port))
        if known is not None:
            return known
        match = self._host.fullmatch(host)
        if match is None:
            return None
        destination = Destination(match[2].decode("ascii"), match[1].decode("ascii"), port or HTTP_PORT)
        self._hosts.put((host, port), destination)
        return destination

    def authority(self, destination: Destination, *, with_port: bool = False) -> bytes:
        """The Host of a destination; port 80 is left out unless `with_port` asks for it."""
        if with_port:
            return self._write_authority(destination, f":{destination.port}")
        known = self._authorities.get(destination)
        if known is None:
            port = f":{destination.port}" if destination.port != HTTP_PORT else ""
            known = self._write_authority(destination, port)
            self._authorities.put(destination, known)
        return known

    def gateway_target(self, path: bytes) -> GatewayTarget | None:
        """Splits `/v1/workspaces/<ws>/nodes/<node>[:port]/<path>`; None for any other target in origin-form."""
        match = _GATEWAY.fullmatch(path)
        if match is None:
            return None
        site, rest, query = match.groups()
        destination = self._sites(site)
        if destination is None:
            return None
        return GatewayTarget(destination, (rest or b"/") + (query or b""))

    def _write_authority(self, destination: Destination, port: str) -> bytes:
        return f"{destination.node}.{destination.workspace}.{self._suffix}{port}".encode("ascii")


def _site(path: bytes) -> Destination | None:
    """The destination that the first part of a gateway path names."""
    match = _SITE.fullmatch(path)
    if match is None:
        return None
    workspace, node, port = match.groups()
    number = int(port) if port is not None else HTTP_PORT
    return Destination(workspace.decode("ascii"), node.decode("ascii"), number) if number <= MAX_PORT else None
