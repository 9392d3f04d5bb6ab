"""A shell whose connection was cut: how long it is tried to attach again, and what ends that."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from tests.support.loop_clock import LoopClock
from trunkline.client.errors import NodeUnreachable, PermissionRefused, TrunklineError, Unauthenticated
from trunkline.client.node import Node
from trunkline.client.shells import AWAY_SECONDS, RemoteShell, ShellListener, ShellRequest

VIRTUAL_TIME = True


def refused(kind: type[Any], status: int, message: str) -> TrunklineError:
    error: TrunklineError = kind(status, "http_request_denied", "", message)
    return error


LOCKED = refused(PermissionRefused, 403, "the node is locked")
REVOKED = refused(Unauthenticated, 401, "the node is revoked")
AWAY = refused(NodeUnreachable, 502, "the node has no link to this relay")


class Opened:
    """The answer to the opening of a shell."""

    status = 201

    async def read(self) -> bytes:
        return b""


class RefusingNode:
    """Opens the shell; attempts to attach fail in turn, the last failure goes on."""

    def __init__(self, failures: Sequence[TrunklineError]) -> None:
        self._failures = failures
        self.attempts = 0

    async def request(self, *arguments: object, **more: object) -> Opened:
        return Opened()

    async def open_upgraded(self, *arguments: object, **more: object) -> None:
        self.attempts += 1
        raise self._failures[min(self.attempts, len(self._failures)) - 1]


async def ending_of(*failures: TrunklineError) -> tuple[TrunklineError, int]:
    """How a shell ends that meets these failures, and how many attempts there were."""

    async def show(content: bytes, is_error: bool) -> None:
        raise AssertionError(content)

    node = RefusingNode(failures)
    shell = RemoteShell(cast(Node, node), ShellRequest(terminal=False), ShellListener(show), clock=LoopClock())
    with pytest.raises(TrunklineError) as raised:
        await shell.run()
    return raised.value, node.attempts


async def test_a_locked_node_has_ended_the_shell_and_is_not_asked_again():
    assert await ending_of(AWAY, AWAY, LOCKED) == (LOCKED, 3)


async def test_a_revoked_node_is_asked_with_a_new_token_or_two():
    assert await ending_of(AWAY, REVOKED) == (REVOKED, 4)


async def test_a_relay_that_lags_behind_for_a_moment_ends_no_shell():
    error, _ = await ending_of(REVOKED, REVOKED, AWAY, REVOKED, LOCKED)
    assert error is LOCKED


async def test_a_node_that_is_away_is_waited_for():
    began = asyncio.get_running_loop().time()
    error, attempts = await ending_of(AWAY)
    assert str(error) == "the node could not be reached again within 60 s: the node has no link to this relay"
    assert asyncio.get_running_loop().time() - began >= AWAY_SECONDS
    assert attempts > 30
