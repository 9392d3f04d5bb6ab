"""Run in a network namespace of its own: tries the block for real, and prints what each user reached, as JSON.

Arguments: `nftables` or `iptables`.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from node_agent.protection.firewall import FirewallUnavailable, Tool
from node_agent.protection.iptables import Iptables
from node_agent.protection.nftables import Nftables
from node_agent.protection.rule_names import chain_of, table_of
from tests.support.left_rules import remove_left_rules

NOBODY = 65534
PLACES = (("169.254.169.254", 80), ("169.254.169.254", 53), ("169.254.170.2", 80), ("fd00:ec2::254", 80),
          ("168.63.129.16", 80), ("168.63.129.16", 8080), ("127.0.0.1", 80))  # fmt: skip


def prepare():
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for address in ("169.254.169.254/32", "169.254.170.2/32", "168.63.129.16/32", "fd00:ec2::254/128"):
        tried = ["nodad"] if ":" in address else []
        subprocess.run(["ip", "address", "add", address, "dev", "lo", *tried], check=True)
    listeners = [listener(host, port) for host, port in PLACES]
    for _ in range(100):  # a new address takes a moment
        if len(reached(0)) == len(PLACES):
            break
        time.sleep(0.02)
    return listeners


def listener(host, port):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family)


def reached(uid):
    """Connect from a child process that runs as this user; returns the places that answered."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
        os.write(writing, "\n".join(f"{host} {port}" for host, port in PLACES if connects(host, port)).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answers:
        found = answers.read().splitlines()
    os.waitpid(child, 0)
    return found


def connects(host, port):
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as one:
        one.settimeout(5)
        return one.connect_ex((host, port)) == 0


async def left(tool, kind):
    """What the firewall holds."""
    return (await tool.run(*(["nft", "list", "ruleset"] if kind == "nftables" else ["iptables-save"]))).decode()


async def main(tool, kind):
    listeners = prepare()
    firewall = Nftables(tool, "trunkline_test") if kind == "nftables" else Iptables(tool, "TRUNKLINE-test")
    found = {"before": reached(NOBODY)}
    try:
        await firewall.apply({NOBODY, 4242})
        await firewall.apply({NOBODY})
    except FirewallUnavailable as error:
        return {"unavailable": str(error)}
    found |= {"nobody": reached(NOBODY), "root": reached(0), "other": reached(4242), "intact": await firewall.intact()}
    await tool.run(*(["nft", "flush", "ruleset"] if kind == "nftables" else ["iptables", "-F", "OUTPUT"]))
    found |= {"flushed": await firewall.intact()}
    await firewall.apply({NOBODY})
    found |= {"again": reached(NOBODY)}
    await firewall.remove()
    found |= {"removed": reached(NOBODY), "left": await left(tool, kind)}
    for one in listeners:
        one.close()
    return found


def removed_of_a_killed_agent(tool, kind):
    """How many rules are removed of an agent that has left its own, and what is left then."""
    with tempfile.TemporaryDirectory() as root:
        state = Path(root) / "agent" / "state"
        state.mkdir(parents=True)
        firewall = Nftables(tool, table_of(state)) if kind == "nftables" else Iptables(tool, chain_of(state))
        asyncio.run(firewall.apply({NOBODY}))
        return remove_left_rules(Path(root), tool), asyncio.run(left(tool, kind))


def found(kind):
    passed = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "XTABLES_LIBDIR") if name in os.environ}
    tool = Tool(search_path=os.environ["PATH"], environment=passed)
    reach = asyncio.run(main(tool, kind))
    return reach if "unavailable" in reach else reach | {"of_killed": removed_of_a_killed_agent(tool, kind)}


sys.stdout.write(json.dumps(found(sys.argv[1])))
