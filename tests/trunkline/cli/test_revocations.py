"""`trunkline revocation`: what was revoked."""

from __future__ import annotations

import json

from tests.support.fake_control_plane import FakeControlPlane
from tests.trunkline.cli.conftest import Trunkline
from tests.trunkline.cli.test_revoke import WAITING


def test_the_list_is_whole_page_after_page(trunkline: Trunkline) -> None:
    [heading, *rows] = trunkline("revocation", "list").stdout.decode().splitlines()
    assert heading.split() == ["KIND", "ID", "SEQUENCE", "CREATED", "EXPIRES", "REVOKED", "BY"]
    assert [row.split()[:3] for row in rows] == [["token", f"jti-{number}", str(number)] for number in (1, 2, 3)]
    listed = json.loads(trunkline("revocation", "list", "-o", "json").stdout)["revocations"]
    assert [entry["sequence"] for entry in listed] == [1, 2, 3]


def test_the_list_is_that_of_one_kind(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    assert trunkline("revocation", "list", "--kind", "node").stdout.decode().splitlines()[1].startswith("node")
    assert all("kind=node" in path for _, path, _ in fake.requests)


def test_one_is_shown_with_who_has_taken_it(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    fake.add_node("vm-1")
    fake.adoptions = [WAITING]
    shown = json.loads(trunkline("revocation", "get", "node", "vm-1", "-o", "json").stdout)
    assert (shown["id"], shown["adoption"]["waiting_node_count"]) == ("nd-vm-1", 250)
