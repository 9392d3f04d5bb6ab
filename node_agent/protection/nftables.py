"""The block in nftables: a table of the agent's own, replaced as a whole, so that nobody else's rules are touched."""

from collections.abc import Collection, Iterable

from node_agent.protection.firewall import FirewallUnavailable, Tool
from node_agent.protection.metadata_addresses import DNS_PORT, IPV4, IPV6, WIRE_SERVER, WIRE_SERVER_PORTS


def ruleset(table: str, uids: Collection[int]) -> str:
    """Return what `nft -f` makes the table of, in one transaction, whether it was there before or not.

    Users are matched by the socket's owner; what has no socket, such as a reset of the kernel's, is let pass.
    """
    users = _set(sorted(uids))
    ipv4, ipv6, ports = _set(IPV4), _set(IPV6), _set(WIRE_SERVER_PORTS)
    reject = "reject with icmpx type admin-prohibited"
    return f"""table inet {table}
delete table inet {table}
table inet {table} {{
  chain output {{
    type filter hook output priority filter; policy accept;
    meta skuid {users} meta l4proto {{ tcp, udp }} th dport {DNS_PORT} accept
    meta skuid {users} ip daddr {ipv4} {reject}
    meta skuid {users} ip6 daddr {ipv6} {reject}
    meta skuid {users} ip daddr {WIRE_SERVER} tcp dport {ports} {reject}
  }}
}}
"""


def removal(table: str) -> str:
    """Return what `nft -f` removes the table by, whether it is there or not."""
    return f"table inet {table}\ndelete table inet {table}\n"


class Nftables:
    """The table of one agent."""

    name = "nftables"

    def __init__(self, tool: Tool, table: str) -> None:
        self._tool = tool
        self._table = table
        self._applied: bytes | None = None

    async def apply(self, uids: Collection[int]) -> None:
        """Block these users, and no others.

        Raises:
            FirewallUnavailable: there is no `nft`, it may not, or the kernel does not know it.
        """
        await self._tool.run("nft", "-f", "-", content=ruleset(self._table, uids))
        self._applied = await self._listed()

    async def intact(self) -> bool:
        """Whether the table is what it was made."""
        try:
            return self._applied is not None and await self._listed() == self._applied
        except FirewallUnavailable:
            return False

    async def remove(self) -> None:
        """Remove the table, also one that an agent before this one left.

        Raises:
            FirewallUnavailable: as `apply`.
        """
        self._applied = None
        await self._tool.run("nft", "-f", "-", content=removal(self._table))

    async def _listed(self) -> bytes:
        return await self._tool.run("nft", "-nn", "list", "table", "inet", self._table)


def _set(values: Iterable[object]) -> str:
    return "{ " + ", ".join(map(str, values)) + " }"
