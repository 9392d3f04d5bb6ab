"""The yardstick: nginx as a reverse proxy with one worker, TLS in and TLS to a backend that answers from memory."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.machine import RELAY_CORE, pinned
from bench.ports import kept_port, wait_for_port

_CONFIGURATION = """
daemon off;
master_process off;
error_log {directory}/error.log;
pid {directory}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  keepalive_requests 1000000000;
  client_max_body_size 0;
  upstream backend {{
    server 127.0.0.1:{backend_port};
    keepalive 256;
    keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_tickets off;
    location / {{
      proxy_pass https://backend;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_ssl_protocols TLSv1.2 TLSv1.3;
      proxy_ssl_verify on;
      proxy_ssl_trusted_certificate {roots};
      proxy_ssl_name localhost;
      proxy_request_buffering off;
      proxy_max_temp_file_size 0;
    }}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Nginx:
    """A running nginx: where it listens, and its only process."""

    url: str
    pid: int


@contextmanager
def running_nginx(directory: Path, certificate: Path, key: Path, roots: Path, backend_port: int) -> Iterator[Nginx]:
    """Run nginx in front of the backend, on the relay's core."""
    directory.mkdir()
    port = kept_port()
    configuration = directory / "nginx.conf"
    configuration.write_text(
        _CONFIGURATION.format(
            directory=directory, port=port, backend_port=backend_port, certificate=certificate, key=key, roots=roots
        )
    )
    process = subprocess.Popen(pinned(RELAY_CORE, ["/usr/sbin/nginx", "-p", str(directory), "-c", str(configuration)]))
    try:
        wait_for_port(port)
        yield Nginx(f"https://localhost:{port}", process.pid)
    finally:
        process.terminate()
        process.wait(10)
