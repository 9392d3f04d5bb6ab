"""The block in iptables, where there is no nftables: a chain of the agent's own in each family, jumped to by OUTPUT."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from node_agent.protection.firewall import FirewallUnavailable, Tool
from node_agent.protection.metadata_addresses import DNS_PORT, IPV4, IPV6, WIRE_SERVER, WIRE_SERVER_PORTS


@dataclass(frozen=True, slots=True)
class Family:
    """One of the two: its command, and the addresses of it that are blocked."""

    command: str
    addresses: tuple[IPv4Address | IPv6Address, ...]
    rejection: str


FAMILIES = (
    Family("iptables", IPV4, "icmp-admin-prohibited"),
    Family("ip6tables", IPV6, "icmp6-adm-prohibited"),
)


def rules(family: Family, chain: str, uids: Collection[int]) -> str:
    """Return what `iptables-restore --noflush` makes the chain of, whether it was there before or not."""
    lines = [f"-A {chain} {rule}" for uid in sorted(uids) for rule in _rules_of(family, uid)]
    return "\n".join(["*filter", f":{chain} - [0:0]", *lines, "COMMIT", ""])


def _rules_of(family: Family, uid: int) -> Iterator[str]:
    owner, reject = f"-m owner --uid-owner {uid}", f"-j REJECT --reject-with {family.rejection}"
    for protocol in ("tcp", "udp"):
        yield f"{owner} -p {protocol} --dport {DNS_PORT} -j RETURN"
    for address in family.addresses:
        yield f"{owner} -d {address} {reject}"
    if family.command == "iptables":
        for port in WIRE_SERVER_PORTS:
            yield f"{owner} -d {WIRE_SERVER} -p tcp --dport {port} {reject}"


class Iptables:
    """The chains of one agent."""

    name = "iptables"

    def __init__(self, tool: Tool, chain: str) -> None:
        self._tool = tool
        self._chain = chain
        self._applied: list[bytes] | None = None

    async def apply(self, uids: Collection[int]) -> None:
        """Block these users, and no others.

        Raises:
            FirewallUnavailable: one of the two commands is missing, may not, or the kernel does not know it.
        """
        for family in FAMILIES:
            content = rules(family, self._chain, uids)
            await self._tool.run(f"{family.command}-restore", "-w", "10", "--noflush", content=content)
            if not await self._jumps(family):
                await self._tool.run(family.command, "-w", "10", "-I", "OUTPUT", "1", "-j", self._chain)
        self._applied = await self._listed()

    async def intact(self) -> bool:
        """Whether the chains are what they were made, and jumped to."""
        try:
            jumps = [await self._jumps(family) for family in FAMILIES]
            return self._applied is not None and all(jumps) and await self._listed() == self._applied
        except FirewallUnavailable:
            return False

    async def remove(self) -> None:
        """Remove the chains, also those that an agent before this one left.

        Raises:
            FirewallUnavailable: as `apply`.
        """
        self._applied = None
        for family in FAMILIES:
            await self._tool.run(
                f"{family.command}-restore", "-w", "10", "--noflush", content=rules(family, self._chain, ())
            )
            while await self._jumps(family):
                await self._tool.run(family.command, "-w", "10", "-D", "OUTPUT", "-j", self._chain)
            await self._tool.run(family.command, "-w", "10", "-X", self._chain)

    async def _jumps(self, family: Family) -> bool:
        try:
            await self._tool.run(family.command, "-w", "10", "-C", "OUTPUT", "-j", self._chain)
        except FirewallUnavailable:
            return False
        return True

    async def _listed(self) -> list[bytes]:
        return [await self._tool.run(family.command, "-w", "10", "-S", self._chain) for family in FAMILIES]
