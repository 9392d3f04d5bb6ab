import asyncio
import socket
import tempfile
from pathlib import Path

import pytest

from tests.support.identities import IdentityKit
from trunkline.runtime.loop import run
from trunkline.runtime.temporary_files import temporary_files_in_memory, without_temporary_files


def test_they_are_in_memory_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "tempdir", "/before")
    with temporary_files_in_memory({}, tmp_path):
        assert tempfile.gettempdir() == str(tmp_path)
    assert tempfile.gettempdir() == "/before"


@pytest.mark.parametrize(
    ("named", "there", "place"), [("own", True, "own"), ("own:b", True, "own"), ("own", False, "")]
)
def test_a_directory_of_the_daemons_own_comes_before_one_that_everybody_may_fill(
    named: str, there: bool, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tempfile, "tempdir", "/before")
    if there:
        (tmp_path / "own").mkdir()
    with temporary_files_in_memory({"RUNTIME_DIRECTORY": f"{tmp_path}/{named}"}, tmp_path):
        assert tempfile.gettempdir() == str(tmp_path / place)


@pytest.mark.parametrize(
    ("environ", "there"), [({"TMPDIR": "/elsewhere", "RUNTIME_DIRECTORY": "/"}, True), ({}, False)]
)
def test_what_the_operator_says_holds_and_a_system_without_goes_on(
    environ: dict[str, str], there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tempfile, "tempdir", "/before")
    with temporary_files_in_memory(environ, tmp_path if there else tmp_path / "none"):
        assert tempfile.gettempdir() == "/before"


@pytest.mark.parametrize(("name", "problem"), [(".", None), ("none", "TMPDIR")])
def test_where_none_can_be_made_it_is_said_what_to_do(
    name: str, problem: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / name)])
    said = without_temporary_files()
    assert said is None if problem is None else said is not None and problem in said


def test_an_agent_is_known_where_the_disk_takes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    kit = IdentityKit(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "takes no file"))

    async def main() -> object:
        loop = asyncio.get_running_loop()
        theirs, ours = socket.socketpair()
        dialling = loop.create_connection(
            asyncio.Protocol, sock=theirs, ssl=kit.client_tls(kit.issue_node()), server_hostname="localhost"
        )
        accepting = loop.connect_accepted_socket(asyncio.Protocol, ours, ssl=kit.server_tls().context)
        (dialled, _), (accepted, _) = await asyncio.gather(dialling, accepting)
        certificate = accepted.get_extra_info("peercert")
        dialled.close()
        accepted.close()
        await asyncio.sleep(0.01)
        return certificate

    with temporary_files_in_memory({}):
        assert run(main, event_loop="auto")
