"""A shell whose connection was cut: how long it is tried to attach again, and what ends that."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from tests.support.loop_clock import LoopClock
from trunkline.client.errors import (
    ApiError,
    CallInterrupted,
    NodeSilent,
    NodeUnreachable,
    PermissionRefused,
    RelayBusy,
    TrunklineError,
    Unauthenticated,
)
from trunkline.client.node import Node
from trunkline.client.shells import AWAY_SECONDS, RemoteShell, ShellListener, ShellRequest

VIRTUAL_TIME = True


def refused(
    kind: type[Any], status: int, message: str, *, error: str = "http_request_denied", retry: bool | None = None
) -> TrunklineError:
    refusal: TrunklineError = kind(status, error, "", message, retry=retry)
    return refusal


LOCKED = refused(PermissionRefused, 403, "the node is locked")
REVOKED = refused(Unauthenticated, 401, "the node is revoked")
AWAY = refused(NodeUnreachable, 502, "the node has no link to this relay", error="destination_unavailable")
LOST = refused(NodeUnreachable, 502, "the way to the node was lost", error="connection_terminated")
SILENT = refused(NodeSilent, 504, "the node did not answer", error="http_response_timeout", retry=True)
BUSY = refused(RelayBusy, 429, "too many calls", retry=True)
CUT = CallInterrupted("nothing from the peer for 13.1 s", retry=True)
MISSING = ApiError(404, "RESOURCE_DOES_NOT_EXIST", "there is no such shell on this node")


class Opened:
    """The answer to the opening of a shell."""

    status = 201

    async def read(self) -> bytes:
        return b""


class RefusingNode:
    """Opens the shell, or fails in that; attempts to attach fail in turn, the last failure goes on."""

    def __init__(self, failures: Sequence[TrunklineError], opening: TrunklineError | None) -> None:
        self._failures = failures
        self._opening = opening
        self.openings = 0
        self.attempts = 0

    async def request(self, *arguments: object, **more: object) -> Opened:
        self.openings += 1
        if self._opening is not None:
            raise self._opening
        return Opened()

    async def open_upgraded(self, *arguments: object, **more: object) -> None:
        self.attempts += 1
        raise self._failures[min(self.attempts, len(self._failures)) - 1]


async def ending_of(*failures: TrunklineError, opening: TrunklineError | None = None) -> tuple[TrunklineError, int]:
    """How a shell ends that meets these failures, and how many attempts there were. It is asked for once."""

    async def show(content: bytes, is_error: bool) -> None:
        raise AssertionError(content)

    node = RefusingNode(failures, opening)
    shell = RemoteShell(cast(Node, node), ShellRequest(terminal=False), ShellListener(show), clock=LoopClock())
    with pytest.raises(TrunklineError) as raised:
        await shell.run()
    assert node.openings == 1
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


@pytest.mark.parametrize("lost", [LOST, SILENT, CUT])
async def test_an_opening_whose_answer_was_lost_is_attached_to_and_not_asked_for_again(lost: TrunklineError):
    assert await ending_of(AWAY, LOCKED, opening=lost) == (LOCKED, 2)


async def test_of_an_opening_without_an_answer_it_is_told_that_there_is_no_shell():
    error, attempts = await ending_of(MISSING, opening=LOST)
    assert attempts == 1
    assert isinstance(error, CallInterrupted)
    assert str(error) == (
        "the node has no such shell: it was not opened, or has run and ended meanwhile: the way to the node was lost"
    )


async def test_a_shell_that_was_there_and_has_ended_is_told_in_the_nodes_words():
    assert await ending_of(AWAY, MISSING) == (MISSING, 2)


@pytest.mark.parametrize("refusal", [AWAY, BUSY, LOCKED, REVOKED, MISSING])
async def test_an_opening_that_was_refused_is_not_waited_for(refusal: TrunklineError):
    assert await ending_of(LOCKED, opening=refusal) == (refusal, 0)
