import re
import resource
import socket
from pathlib import Path

from relay.serving_port import make_room


def table_size() -> int:
    """How many descriptors the kernel's table for this process has room for."""
    found = re.search(r"^FDSize:\s*(\d+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def test_the_table_of_descriptors_is_as_large_as_it_may_come_to_be() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(2 * table_size() + 1, soft)
    with socket.socket() as any_socket:
        make_room(any_socket, wanted)
        assert table_size() >= wanted


def test_more_than_may_be_open_is_no_error() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = table_size()
    with socket.socket() as any_socket:
        make_room(any_socket, 2 * soft if soft < 100_000 else before)
    assert table_size() >= before
