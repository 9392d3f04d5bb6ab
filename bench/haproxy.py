"""The load balancer of the restart soak: HAProxy before the relays, TLS passed through, their readiness checked.

Three checks that miss take a relay out: 0.6 s, of the two for which it serves on while it is not ready any more. One
check that is late, of the only relay that is up, does not.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.ports import free_port, wait_for_port

_CONFIGURATION = """
global
  maxconn 4096
defaults
  mode tcp
  timeout connect 2s
  timeout client 120s
  timeout server 120s
  retries 3
  option redispatch 1
frontend relays
  bind 127.0.0.1:{port}
  default_backend relays
backend relays
  balance roundrobin
  option httpchk GET /readyz
  default-server check inter 200ms fall 3 rise 1
{servers}
"""


@dataclass(frozen=True, slots=True)
class Upstream:
    """A relay, as a load balancer sees it."""

    port: int
    admin_port: int


@contextmanager
def running_haproxy(directory: Path, relays: Sequence[Upstream]) -> Iterator[int]:
    """HAProxy in front of these relays; its port is given."""
    port = free_port()
    servers = [
        f"  server relay-{number} 127.0.0.1:{relay.port} port {relay.admin_port}"
        for number, relay in enumerate(relays, 1)
    ]
    configuration = directory / "haproxy.cfg"
    configuration.write_text(_CONFIGURATION.format(port=port, servers="\n".join(servers)))
    with (directory / "haproxy.log").open("wb") as log:
        process = subprocess.Popen(["/usr/sbin/haproxy", "-db", "-f", str(configuration)], stdout=log, stderr=log)
    try:
        wait_for_port(port)
        yield port
    finally:
        process.kill()
        process.wait(10)
