"""The client of the control plane's API, and its face for programs without an event loop."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from tests.support.fake_control_plane import ACCOUNT, TOKEN, CannedCommand, FakeControlPlane, error, fake_control_plane
from trunkline.client.command_output import OutputPart
from trunkline.client.commands import CommandRequest, Target
from trunkline.client.control_plane import ControlPlane
from trunkline.client.errors import ApiError, BadResponse, DeadlineExceeded, Unreachable
from trunkline.client.records.commands import Command, CommandState
from trunkline.client.sync import Blocking, LoopThread, connect


@pytest.fixture(scope="module")
def shared_fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeControlPlane]:
    with fake_control_plane(tmp_path_factory.mktemp("control-plane")) as fake:
        yield fake


@pytest.fixture
def fake(shared_fake: FakeControlPlane) -> FakeControlPlane:
    shared_fake.left()
    shared_fake.nodes, shared_fake.canned, shared_fake.commands = [], {}, {}
    shared_fake.requests, shared_fake.failures = [], []
    return shared_fake


async def test_records_ignore_what_a_newer_service_says(fake: FakeControlPlane) -> None:
    fake.add_node("vm-1", zone="a")
    async with ControlPlane(fake.url, TOKEN, ca_file=fake.ca_file) as control_plane:
        node = await control_plane.workspace("main").get_node("vm-1")
    assert (node.node, node.labels) == ("vm-1", {"zone": "a"})


def test_a_command_in_a_state_of_a_later_release_is_one_of_which_nothing_is_known() -> None:
    command = Command.model_validate({"command_id": "c-1", "state": "HIBERNATING"})
    assert (command.state, command.state.final) == (CommandState.UNKNOWN, False)
    with pytest.raises(ValidationError):
        Command.model_validate({"command_id": "c-1", "state": 5})


async def test_a_relay_whose_names_include_the_control_planes_is_not_given_the_token(tmp_path: Path) -> None:
    with fake_control_plane(tmp_path, as_relay=True) as relay:
        async with ControlPlane(relay.url, TOKEN, ca_file=relay.ca_file) as control_plane:
            with pytest.raises(
                Unreachable, match=r"is not it: its certificate is not the control plane's but"
            ) as caught:
                await control_plane.account.account_id()
        assert (caught.value.retry, caught.value.never_sent, relay.requests) == (False, True, [])


async def test_an_errors_code_and_details(fake: FakeControlPlane) -> None:
    async with ControlPlane(fake.url, "wrong", ca_file=fake.ca_file) as control_plane:
        with pytest.raises(ApiError) as caught:
            await control_plane.account.account_id()
    assert (caught.value.status, caught.value.error_code) == (401, "UNAUTHENTICATED")
    assert not caught.value.retry


async def test_the_account_is_asked_for_once(fake: FakeControlPlane) -> None:
    async with ControlPlane(fake.url, TOKEN, ca_file=fake.ca_file) as control_plane:
        await control_plane.account.create_workspace("a")
        await control_plane.account.create_workspace("b")
        assert await control_plane.account.account_id() == ACCOUNT
    assert [path for _, path, _ in fake.requests].count("/api/2.0/accounts") == 1


async def test_what_would_leave_something_behind_is_not_repeated(fake: FakeControlPlane) -> None:
    async with ControlPlane(fake.url, TOKEN, ca_file=fake.ca_file) as control_plane:
        fake.failures = [error(503, "TEMPORARILY_UNAVAILABLE", "no")]
        with pytest.raises(ApiError):
            await control_plane.workspace("main").create_join_token(lifetime_seconds=60)
        fake.failures = [error(503, "TEMPORARILY_UNAVAILABLE", "no")]
        assert (await control_plane.workspace("main").create_call_token("vm-1", ["health:read"])).token


async def test_a_deletion_whose_first_answer_was_lost(fake: FakeControlPlane) -> None:
    async with ControlPlane(fake.url, TOKEN, ca_file=fake.ca_file) as control_plane:
        fake.failures = [error(502, "X", "no"), error(404, "RESOURCE_DOES_NOT_EXIST", "gone")]
        await control_plane.workspace("main").delete_node("vm-1")


async def test_a_deletion_that_was_not_begun_is_not_taken_for_one_that_was_done(fake: FakeControlPlane) -> None:
    async with ControlPlane(fake.url, TOKEN, ca_file=fake.ca_file) as control_plane:
        fake.failures = [error(429, "RESOURCE_EXHAUSTED", "later"), error(404, "RESOURCE_DOES_NOT_EXIST", "none")]
        with pytest.raises(ApiError, match="none"):
            await control_plane.workspace("main").delete_node("vm-1")


async def test_a_look_that_is_repeated_tells_that_there_is_nothing(fake: FakeControlPlane) -> None:
    async with ControlPlane(fake.url, TOKEN, ca_file=fake.ca_file) as control_plane:
        fake.failures = [error(502, "X", "no"), error(404, "RESOURCE_DOES_NOT_EXIST", "none")]
        with pytest.raises(ApiError, match="none"):
            await control_plane.workspace("main").get_node("vm-1")


async def test_what_is_refused_is_no_output(fake: FakeControlPlane) -> None:
    async with ControlPlane(fake.url, TOKEN, ca_file=fake.ca_file) as control_plane:
        fake.failures = [error(404, "RESOURCE_DOES_NOT_EXIST", "no such command")]
        with pytest.raises(ApiError, match="no such command"):
            _ = [piece async for piece in control_plane.workspace("main").commands.output("c-1", "stdout")]


async def test_nothing_is_opened_once_the_client_is_closed(fake: FakeControlPlane) -> None:
    control_plane = ControlPlane(fake.url, TOKEN, ca_file=fake.ca_file)
    node = control_plane.node("main", "vm-1")
    token = await node._tokens.get("health:read")
    await control_plane.close()
    for late in (control_plane.account.account_id(), node._route.linked(token)):
        with pytest.raises(Unreachable, match="closed") as caught:
            await late
        assert not caught.value.retry


def test_a_client_is_used_on_one_event_loop(fake: FakeControlPlane) -> None:
    control_plane = ControlPlane(fake.url, TOKEN, ca_file=fake.ca_file)

    async def ask(*, close: bool) -> None:
        await control_plane.account.rotate_secret_key()
        if close:
            await control_plane.close()

    with asyncio.Runner() as first:
        first.run(ask(close=False))
        with pytest.raises(RuntimeError, match="another event loop"):
            asyncio.run(ask(close=False))
        first.run(ask(close=True))


async def test_a_redirect_takes_the_token_nowhere(fake: FakeControlPlane) -> None:
    async with ControlPlane(fake.url, TOKEN, ca_file=fake.ca_file) as control_plane:
        fake.failures = [error(307, "X", "elsewhere", Location="https://evil.test/")]
        with pytest.raises(ApiError) as caught:
            await control_plane.account.account_id()
    assert caught.value.status == 307


async def test_an_answer_that_is_no_object(fake: FakeControlPlane) -> None:
    async with ControlPlane(fake.url, TOKEN, ca_file=fake.ca_file) as control_plane:
        fake.failures = [error(200, "X", "no")]
        fake.failures[0].text = "[1]"
        with pytest.raises(BadResponse):
            await control_plane.account.account_id()


async def test_deadlines_bound_all_attempts(fake: FakeControlPlane) -> None:
    async with ControlPlane(fake.url, TOKEN, ca_file=fake.ca_file, timeout_seconds=0.3) as control_plane:
        fake.failures = [error(503, "X", "no", **{"Retry-After": "60"})]
        with pytest.raises(DeadlineExceeded):
            await control_plane.account.account_id()


async def test_a_port_where_nobody_listens(fake: FakeControlPlane) -> None:
    async with ControlPlane("https://localhost:1", TOKEN, ca_file=fake.ca_file, timeout_seconds=0.5) as control_plane:
        with pytest.raises((Unreachable, DeadlineExceeded)) as caught:
            await control_plane.account.account_id()
    assert caught.value.retry


@pytest.mark.parametrize("url", ["http://localhost", "localhost", "ftp://x", ""])
def test_only_https(url: str, fake: FakeControlPlane) -> None:
    with pytest.raises(ValueError, match="https"):
        ControlPlane(url, TOKEN, ca_file=fake.ca_file)


def test_the_token_is_in_no_representation(fake: FakeControlPlane) -> None:
    control_plane = ControlPlane(fake.url, TOKEN, ca_file=fake.ca_file)
    assert TOKEN not in repr(vars(control_plane)) + repr(vars(control_plane._transport))


async def test_a_command_from_submission_to_end(fake: FakeControlPlane) -> None:
    fake.add_node("vm-1", CannedCommand(stdout=b"x" * 100_000))
    async with ControlPlane(fake.url, TOKEN, ca_file=fake.ca_file) as control_plane:
        commands = control_plane.workspace("main").commands
        (command,) = await commands.submit(Target(node="vm-1"), CommandRequest(["true"], command_id="c-1"))
        pieces = [piece async for piece in commands.output(command.command_id, follow=True, offset=10)]
        ended = await commands.wait(command.command_id, timeout_seconds=30)
    assert b"".join(pieces) == b"x" * 99_990
    assert ended.state is CommandState.SUCCEEDED


@pytest.mark.parametrize(
    ("wanted", "content", "offset"),
    [({"length_bytes": 4}, b"0123", 0), ({"offset": 3, "length_bytes": 2}, b"34", 3), ({"tail_bytes": 4}, b"6789", 6)],
)
async def test_a_part_of_an_output_says_where_it_begins_and_how_large_the_whole_is(
    fake: FakeControlPlane, wanted: dict[str, Any], content: bytes, offset: int
) -> None:
    fake.add_node("vm-1", CannedCommand(stdout=b"0123456789"))
    async with ControlPlane(fake.url, TOKEN, ca_file=fake.ca_file) as control_plane:
        commands = control_plane.workspace("main").commands
        await commands.submit(Target(node="vm-1"), CommandRequest(["true"], command_id="c-1"))
        part = await commands.output_part("c-1", **{"length_bytes": 4, **wanted})
    assert part == OutputPart(content, offset, 10)


@pytest.mark.parametrize("target", [Target(), Target(node="a", everywhere=True)])
def test_a_command_has_one_target(target: Target) -> None:
    with pytest.raises(ValueError, match="one target"):
        target.document()


def test_the_blocking_face(fake: FakeControlPlane) -> None:
    for number in range(3):
        fake.add_node(f"vm-{number}", CannedCommand(stdout=b"out"))
    with connect(fake.url, TOKEN, ca_file=fake.ca_file) as control_plane:
        workspace = control_plane.workspace("main")
        assert [node.node for node in workspace.list_nodes()] == ["vm-0", "vm-1", "vm-2"]
        (command,) = workspace.commands.submit(Target(node="vm-1"), CommandRequest(["true"]))
        assert b"".join(workspace.commands.output(command.command_id, follow=True)) == b"out"
        first = next(iter(workspace.list_nodes()))
        assert first.node == "vm-0"
        with pytest.raises(ApiError):
            workspace.get_node("none")


def test_the_blocking_face_inside_an_event_loop(fake: FakeControlPlane) -> None:
    fake.add_node("vm-1")

    async def main() -> str:
        with connect(fake.url, TOKEN, ca_file=fake.ca_file) as control_plane:
            return str(control_plane.workspace("main").get_node("vm-1").node)

    assert asyncio.run(main()) == "vm-1"


def test_a_client_that_was_closed_says_so(fake: FakeControlPlane) -> None:
    fake.add_node("vm-1")
    fake.add_node("vm-2")
    with connect(fake.url, TOKEN, ca_file=fake.ca_file) as control_plane:
        workspace = control_plane.workspace("main")
        nodes, others = workspace.list_nodes(), workspace.list_nodes()
        next(nodes)
    nodes.close()
    for use in (partial(workspace.get_node, "vm-1"), partial(next, others)):
        with pytest.raises(RuntimeError, match="closed"):
            use()


def test_a_client_of_before_a_fork_does_not_wait_for_a_thread_that_is_not_there(fake: FakeControlPlane) -> None:
    with connect(fake.url, TOKEN, ca_file=fake.ca_file) as control_plane:
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                signal.alarm(20)
                control_plane.account.account_id()
            except BaseException as error:  # noqa: BLE001 - the parent is told
                os.write(write_end, str(error).encode())
            finally:
                os._exit(0)
        os.close(write_end)
        assert b"before the process forked" in os.read(read_end, 4096)
        os.close(read_end)
        os.waitpid(child, 0)


def test_what_the_sdk_calls_cannot_wait_for_the_sdk(fake: FakeControlPlane) -> None:
    with connect(fake.url, TOKEN, ca_file=fake.ca_file) as control_plane:

        async def on_the_loop() -> Any:
            return control_plane.account.account_id()

        with pytest.raises(RuntimeError, match="calls back"):
            control_plane._thread.run(on_the_loop())


def test_raw_bytes_have_a_blocking_face_too(fake: FakeControlPlane) -> None:
    class Opens:
        async def open_connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            return await asyncio.open_connection("127.0.0.1", listening.getsockname()[1])

    thread = LoopThread()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        reader, writer = Blocking(Opens(), thread).open_connection()
        accepted, _ = listening.accept()
        with accepted:
            writer.write(b"there")
            assert accepted.recv(5) == b"there"
            accepted.sendall(b"back")
            assert reader.readexactly(4) == b"back"
            writer.close()
            writer.wait_closed()
    thread.stop()


def test_a_ca_file_that_is_not_there(tmp_path: Path) -> None:
    from certs.errors import CertificateError

    with pytest.raises(CertificateError):
        ControlPlane("https://localhost", TOKEN, ca_file=tmp_path / "none.pem")


async def test_a_list_that_begins_again_is_not_taken_for_whole(fake: FakeControlPlane) -> None:
    pages = [{"nodes": [], "next_page_token": token} for token in ("a", "b", "a", "b")]
    async with ControlPlane(fake.url, TOKEN, ca_file=fake.ca_file) as control_plane:
        fake.failures = [web.json_response(page) for page in pages]
        with pytest.raises(BadResponse, match="begins again"):
            [node async for node in control_plane.workspace("main").list_nodes()]
    assert len(fake.failures) == 1
