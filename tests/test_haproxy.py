"""deploy/haproxy: HAProxy takes both files, and the load balancer's fits what a relay does."""

import re
import shutil
import subprocess
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from bench.haproxy import Upstream, configuration_for
from bench.ports import kept_port, wait_for_port
from relay.settings import LimitsSettings
from tests.support.identities import IdentityKit

DEPLOYED = Path(__file__).parents[1] / "deploy" / "haproxy"
BALANCER = re.sub(r"(?m)^ *#.*\n", "", (DEPLOYED / "haproxy.cfg").read_text())
COMMENTS = " ".join(re.findall(r"(?m)^ *# ?(.*)$", (DEPLOYED / "haproxy.cfg").read_text()))
PROGRAM = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
LIMITS = LimitsSettings()
SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}

LOGGING = """
global
  log stdout format raw local0
defaults
  mode http
  log global
  option dontlognull
  log-format "%HP answered %ST after %rc retries"
  timeout connect 1s
  timeout client 10s
  timeout server 10s
"""

needs_haproxy = pytest.mark.skipif(PROGRAM is None, reason="haproxy is not installed")


def check(file: Path) -> None:
    """Have HAProxy read the file; a warning is a fault."""
    done = subprocess.run([str(PROGRAM), "-c", "-dW", "-f", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def seconds(setting: str) -> float:
    """What stands behind these words of the load balancer's file."""
    match = re.search(rf"\b{setting} (\d+)(ms|[smh])\b", BALANCER)
    assert match is not None, setting
    return int(match[1]) * SECONDS[match[2]]


@needs_haproxy
def test_haproxy_takes_the_load_balancers_file() -> None:
    check(DEPLOYED / "haproxy.cfg")


@needs_haproxy
def test_haproxy_takes_the_file_of_an_admin_endpoint(tmp_path: Path) -> None:
    kit = IdentityKit(tmp_path)
    certificate = tmp_path / "metrics.pem"
    certificate.write_bytes(kit.issue_relay().to_pem())
    file = tmp_path / "admin.cfg"
    text = (DEPLOYED / "admin.cfg").read_text().replace("/etc/haproxy/metrics.pem", str(certificate))
    file.write_text(text.replace("/etc/haproxy/prometheus-ca.pem", str(kit.ca_file)))
    check(file)


@needs_haproxy
def test_haproxy_takes_the_file_with_the_addresses_of_the_soak(tmp_path: Path) -> None:
    file = tmp_path / "haproxy.cfg"
    file.write_text(configuration_for(8443, [Upstream(1, 2), Upstream(3, 4)]))
    assert re.findall(r"server .+", file.read_text())[-2:] == [
        "server relay-1 127.0.0.1:1 port 2",
        "server relay-2 127.0.0.1:3 port 4",
    ]
    check(file)


def test_a_relay_that_drains_is_out_before_it_closes_its_port() -> None:
    assert "fall 3" in BALANCER
    assert seconds("inter") + 2 * seconds("fastinter") < LIMITS.drain_lead_seconds


def test_a_relay_that_is_back_is_in_before_the_next_that_drains_is_out() -> None:
    """Relays are restarted one after the other: where the one is not in yet as the other goes, there is none."""
    assert "fall 3 rise 1" in BALANCER
    assert 2 * seconds("downinter") < 2 * seconds("fastinter")
    assert re.search(r"(?m)^ +retries 0$", (DEPLOYED / "admin.cfg").read_text())


@needs_haproxy
def test_whoever_asks_for_a_daemon_that_is_being_started_is_told_at_once(tmp_path: Path) -> None:
    """HAProxy would wait for a second before each of three more attempts."""
    port, nobody = kept_port(), kept_port()
    backend = (DEPLOYED / "admin.cfg").read_text().partition("\nbackend admin\n")[2].replace(":9464", f":{nobody}")
    file = tmp_path / "admin.cfg"
    file.write_text(f"{LOGGING}listen admin\n  bind 127.0.0.1:{port}\n{backend}")
    command = [str(PROGRAM), "-db", "-f", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as program:
        try:
            wait_for_port(port)
            with pytest.raises(HTTPError):
                urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10)
            assert program.stdout is not None
            assert program.stdout.readline() == "/readyz answered 503 after 0 retries\n"
        finally:
            program.terminate()


def test_nothing_that_a_relay_keeps_open_is_cut() -> None:
    assert seconds("timeout tunnel") > 100 * max(LIMITS.idle_seconds, LIMITS.keepalive_seconds)
    assert "shutdown-sessions" not in BALANCER


def test_relays_are_sent_no_header_that_they_do_not_know() -> None:
    assert "send-proxy" not in BALANCER


def test_what_comments_say_of_a_relay_is_so() -> None:
    assert f"pinged each {LIMITS.keepalive_seconds:g} s" in COMMENTS
    assert f"closed by the relay after {LIMITS.idle_seconds:g} s" in COMMENTS
    assert f"limits.drain_lead_seconds ({LIMITS.drain_lead_seconds:g})" in COMMENTS
