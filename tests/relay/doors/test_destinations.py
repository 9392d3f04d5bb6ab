import pytest

from relay.doors.destinations import NodeNames
from relay.trust.credentials import Destination

NAMES = NodeNames("trunk.internal")


@pytest.mark.parametrize(
    ("host", "port", "destination"),
    [
        (b"vm-1.finance.trunk.internal", None, Destination("finance", "vm-1", 80)),
        (b"vm-1.finance.trunk.internal", 4040, Destination("finance", "vm-1", 4040)),
        (b"a.b.c.trunk.internal", None, None),
        (b"finance.trunk.internal", None, None),
        (b"link.internal", None, None),
        (b"vm-1.finance.trunk.internal.", None, None),
        (b"vm-1.finance.trunk-internal", None, None),
        (b"vm-1.finance.trunkXinternal", None, None),
        (b"-a.finance.trunk.internal", None, None),
        (b"vm_1.finance.trunk.internal", None, None),
        (b".finance.trunk.internal", None, None),
        (b"a" * 64 + b".finance.trunk.internal", None, None),
        (b"evil.com", None, None),
        (b"169.254.169.254", 80, None),
        (b"[::1]", 80, None),
    ],
)
def test_host_names(host, port, destination) -> None:
    assert NAMES.destination(host, port) == destination


def test_authority_is_canonical() -> None:
    assert NAMES.authority(Destination("w", "n", 80)) == b"n.w.trunk.internal"
    assert NAMES.authority(Destination("w", "n", 80), with_port=True) == b"n.w.trunk.internal:80"
    assert NAMES.authority(Destination("w", "n", 22)) == b"n.w.trunk.internal:22"


@pytest.mark.parametrize(
    ("path", "destination", "target"),
    [
        (b"/v1/workspaces/finance/nodes/vm-1/a/b?c=d", Destination("finance", "vm-1", 80), b"/a/b?c=d"),
        (b"/v1/workspaces/finance/nodes/vm-1", Destination("finance", "vm-1", 80), b"/"),
        (b"/v1/workspaces/finance/nodes/vm-1?x", Destination("finance", "vm-1", 80), b"/?x"),
        (b"/v1/workspaces/finance/nodes/vm-1:4040/", Destination("finance", "vm-1", 4040), b"/"),
        (b"/v1/workspaces/finance/nodes/vm-1/../vm-2/x", Destination("finance", "vm-1", 80), b"/../vm-2/x"),
        (b"/v1/workspaces/finance/nodes/vm-1//x", Destination("finance", "vm-1", 80), b"//x"),
    ],
)
def test_gateway_paths(path, destination, target) -> None:
    assert NAMES.gateway_target(path) == (destination, target)


@pytest.mark.parametrize(
    "path",
    [
        b"/", b"/v1/workspaces/finance/nodes/", b"/v1/workspaces//nodes/vm-1/", b"/v1/workspaces/finance/nodes/VM-1/",
        b"/v1/workspaces/finance/nodes/vm-1:0/", b"/v1/workspaces/finance/nodes/vm-1:65536/",
        b"/v1/workspaces/finance/nodes/vm-1:080/", b"/v1/workspaces/finance/nodes/vm%2d1/",
        b"//v1/workspaces/f/nodes/v/",
        b"/v1/workspaces/finance%2fnodes/vm-1/", b"/v1/./workspaces/finance/nodes/vm-1/", b"/v2/workspaces/f/nodes/v/",
        b"/v1/workspaces/finance/nodes/vm-1:80x/",
    ],
)  # fmt: skip
def test_other_paths_are_no_gateway_targets(path) -> None:
    assert NAMES.gateway_target(path) is None
