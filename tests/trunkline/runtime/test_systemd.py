import os
import socket
from pathlib import Path

from trunkline.runtime.systemd import ServiceNotifier


def receiver(path: str) -> socket.socket:
    receiving = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiving.bind(path)
    return receiving


def test_notifications_reach_the_socket(tmp_path: Path):
    with receiver(str(tmp_path / "notify")) as receiving:
        ServiceNotifier.from_environment({"NOTIFY_SOCKET": str(tmp_path / "notify")}).notify("READY=1")
        assert receiving.recv(64) == b"READY=1"


def test_an_abstract_address_is_understood():
    name = f"trunkline-test-{os.getpid()}"
    with receiver(f"\0{name}") as receiving:
        ServiceNotifier.from_environment({"NOTIFY_SOCKET": f"@{name}"}).notify("STOPPING=1")
        assert receiving.recv(64) == b"STOPPING=1"


def test_without_systemd_nothing_happens(tmp_path: Path):
    ServiceNotifier.from_environment({}).notify("READY=1")
    ServiceNotifier.from_environment({"NOTIFY_SOCKET": str(tmp_path / "gone")}).notify("READY=1")


def test_the_watchdog_is_only_for_the_process_that_is_named():
    assert ServiceNotifier.from_environment({}).watchdog_seconds is None
    assert ServiceNotifier.from_environment({"WATCHDOG_USEC": "30000000"}).watchdog_seconds == 30.0
    assert ServiceNotifier.from_environment({"WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}).watchdog_seconds is None
    assert ServiceNotifier.from_environment({"WATCHDOG_USEC": "soon"}).watchdog_seconds is None
