"""The firewall rules of agents that were killed: they stay, as they are meant to, and each costs every packet time."""

import asyncio
import os
from pathlib import Path

from node_agent.protection.firewall import Firewall, FirewallUnavailable, Tool
from node_agent.protection.iptables import Iptables
from node_agent.protection.nftables import Nftables
from node_agent.protection.rule_names import chain_of, table_of


def remove_left_rules(root: Path, tool: Tool | None = None) -> int:
    """Remove the rules of all agents whose state is below `root`, none of which runs any more; returns how many."""
    tool = tool or Tool()
    tables, chains = _said_by(tool, "nft", "list", "tables"), _said_by(tool, "iptables", "-S")
    if "trunkline_" not in tables and "TRUNKLINE-" not in chains:
        return 0
    left: list[Firewall] = []
    for place, _, _ in os.walk(root):
        table, chain = table_of(Path(place)), chain_of(Path(place))
        if table in tables:
            left.append(Nftables(tool, table))
        if chain in chains:
            left.append(Iptables(tool, chain))
    return asyncio.run(_removed(left))


async def _removed(firewalls: list[Firewall]) -> int:
    for firewall in firewalls:
        await firewall.remove()
    return len(firewalls)


def _said_by(tool: Tool, *command: str) -> str:
    """What a command says; nothing where it is not there, or may not."""
    try:
        said = asyncio.run(tool.run(*command))
    except FirewallUnavailable:
        return ""
    return said.decode()
