"""The load balancer of the restart soak: HAProxy before the relays, by the configuration that operators are given."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.ports import kept_port, wait_for_port

_DEPLOYED = Path(__file__).parents[1] / "deploy" / "haproxy" / "haproxy.cfg"
_PROCESS = re.compile(r"^  (?:user|group|log|maxconn|option tcplog)\b.*\n", re.MULTILINE)
"""What the machine has to have: a user, a system log, descriptors by the ten thousand."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """A relay, as a load balancer sees it."""

    port: int
    admin_port: int


def configuration_for(port: int, relays: Sequence[Upstream]) -> str:
    """The deployed configuration, with these addresses in place of its own, and without what is the machine's."""
    text = re.sub(r"(?m)^  bind .+$", f"  bind 127.0.0.1:{port}", _PROCESS.sub("", _DEPLOYED.read_text()))
    before, *_ = re.split(r"(?m)^  server ", text, maxsplit=1)
    servers = [
        f"  server relay-{number} 127.0.0.1:{relay.port} port {relay.admin_port}\n"
        for number, relay in enumerate(relays, 1)
    ]
    return before + "".join(servers)


@contextmanager
def running_haproxy(directory: Path, relays: Sequence[Upstream]) -> Iterator[int]:
    """HAProxy in front of these relays; its port is given."""
    port = kept_port()
    configuration = directory / "haproxy.cfg"
    configuration.write_text(configuration_for(port, relays))
    with (directory / "haproxy.log").open("wb") as log:
        process = subprocess.Popen(["/usr/sbin/haproxy", "-db", "-f", str(configuration)], stdout=log, stderr=log)
    try:
        wait_for_port(port)
        yield port
    finally:
        process.kill()
        process.wait(10)
