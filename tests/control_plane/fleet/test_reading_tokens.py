"""Tokens to ask nodes with: one serves many questions, for a while, of one node under one name, and of one key."""

from collections.abc import Callable
from pathlib import Path

import pytest

from certs.claims import TokenKind
from certs.scopes import COMMAND_READ, HEALTH_READ
from certs.spiffe import node_id
from certs.tokens import IssuedToken
from control_plane.fleet.node_commands import TOKEN_SECONDS
from control_plane.fleet.reading_tokens import ReadingTokens
from control_plane.storage.records.accounts import Workspace
from control_plane.storage.records.nodes import Node
from tests.support.identities import IdentityKit
from trunkline.runtime.clock import ManualClock

FINANCE = Workspace(workspace_id="ws-finance", workspace="finance")
VM = Node(workspace_id="ws-finance", node_id="nd-one", node="vm-1")
OTHER = Node(workspace_id="ws-finance", node_id="nd-two", node="vm-2")


class Issuer:
    """Signs as the control plane does, under the id of a key that a test names."""

    def __init__(self, kit: IdentityKit, clock: ManualClock) -> None:
        self.kit = kit
        self.clock = clock
        self.key_id = "first"
        self.issued = 0
        self.tokens = ReadingTokens(self.issue, lambda: self.key_id, clock)

    def issue(self, workspace: Workspace, node: Node, scope: str) -> IssuedToken:
        self.issued += 1
        return self.kit.signer.issue_call(
            node_id(self.kit.trust_domain, workspace.workspace_id, node.node_id),
            subject="trunkline/control-plane",
            workspace=workspace.workspace,
            node_name=node.node,
            scopes=[scope],
            now=self.clock.now(),
            lifetime_seconds=TOKEN_SECONDS,
        )

    def health(self, workspace: Workspace = FINANCE, node: Node = VM) -> str:
        return self.tokens.token(workspace, node, HEALTH_READ)


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    kit = IdentityKit(tmp_path)
    return Issuer(kit, ManualClock(kit.now))


def test_three_checks_a_quarter_of_a_minute_apart_share_a_token_that_is_good_for_each(issuer: Issuer) -> None:
    shown = []
    for _ in range(3):
        shown.append(issuer.health())
        claims = issuer.kit.verifier().verify(shown[-1], [TokenKind.CALL], issuer.clock.now())
        assert claims.expires_at - issuer.clock.now() > 20
        issuer.clock.advance(15.0)
    assert len({*shown, issuer.health()}) == issuer.issued == 2


@pytest.mark.parametrize(
    "another",
    [
        lambda issuer: issuer.health(node=OTHER),
        lambda issuer: issuer.tokens.token(FINANCE, VM, COMMAND_READ),
        lambda issuer: issuer.health(node=Node(workspace_id="ws-finance", node_id="nd-one", node="renamed")),
        lambda issuer: issuer.health(Workspace(workspace_id="ws-finance", workspace="renamed")),
    ],
    ids=["node", "scope", "name", "workspace"],
)
def test_what_is_for_something_else_is_another_token(issuer: Issuer, another: Callable[[Issuer], str]) -> None:
    assert issuer.health() != another(issuer)
    assert issuer.issued == 2


def test_a_key_that_signs_no_more_serves_no_more(issuer: Issuer) -> None:
    before = issuer.health()
    issuer.key_id = "second"
    assert issuer.health() != before


@pytest.mark.parametrize("seconds", [-1.0, 40.0, 3600.0])
def test_a_clock_that_was_set_takes_nothing_that_is_not_good_by_it(issuer: Issuer, seconds: float) -> None:
    before = issuer.health()
    issuer.clock.jump(seconds)
    assert issuer.health() != before
