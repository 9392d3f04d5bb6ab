"""Copying between the SDK and the real agent, over a way that breaks: nothing is lost, and little is sent twice."""

import os
from pathlib import Path

import pytest

from tests.support.agent_exchanges import Agent
from tests.support.file_nodes import BreakingWay, called_node
from tests.support.links import until
from trunkline.client.copy_listener import CopyListener
from trunkline.client.copying import Copier
from trunkline.client.file_calls import FileCalls, RemotePlace
from trunkline.files import beneath

CONTENT = os.urandom(2_500_000)
CUTS = [0, 1, 100_000, 900_000, 900_000]
"""More than what is left is never asked for, whatever the cuts before have let pass."""


class Told:
    """What the listener was told."""

    def __init__(self) -> None:
        self.resumed: list[int] = []
        self.cuts = 0
        self.moved = 0
        self.left_out: list[tuple[str, str]] = []

    def listener(self) -> CopyListener:
        return CopyListener(
            resumed=lambda path, offset: self.resumed.append(offset),
            cut=lambda error: setattr(self, "cuts", self.cuts + 1),
            moved=lambda size: setattr(self, "moved", self.moved + size),
            left_out=lambda path, reason: self.left_out.append((path, reason)),
        )


def copier(calls: FileCalls, told: Told, *, keep: bool = False) -> Copier:
    return Copier(calls, keep=keep, umask=0o022, listener=told.listener())


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    return here, there


async def test_a_download_goes_on_after_each_cut(agent: Agent, places: tuple[Path, Path]) -> None:
    here, there = places
    (there / "f").write_bytes(CONTENT)
    way, told = BreakingWay(agent, list(CUTS)), Told()
    directory = os.open(here, os.O_PATH)
    async with called_node(way.answer, agent.kit.call_token("file:read")) as node:
        calls = FileCalls(node)
        await copier(calls, told).download_file(RemotePlace(str(there / "f")), directory, "f", len(CONTENT))
    os.close(directory)
    assert (here / "f").read_bytes() == CONTENT
    assert [path.name for path in here.iterdir()] == ["f"]
    assert not way.cuts
    assert told.cuts == len(CUTS)
    assert told.resumed == sorted(told.resumed)
    assert told.resumed[-1] >= 900_000
    assert told.moved == len(CONTENT), "no byte that arrived is asked for again"


async def test_an_upload_goes_on_after_each_cut(agent: Agent, places: tuple[Path, Path]) -> None:
    here, there = places
    (here / "f").write_bytes(CONTENT)
    part = there / ".f.trunkline-part"

    async def settled() -> None:
        await until(lambda: part.exists() and part.stat().st_size > 0)

    way, told = BreakingWay(agent, list(CUTS), settled=settled), Told()
    source = os.open(here / "f", os.O_RDONLY)
    async with called_node(way.answer, agent.kit.call_token("file:write")) as node:
        await copier(FileCalls(node), told).upload_file(source, RemotePlace(str(there / "f")))
    os.close(source)
    assert (there / "f").read_bytes() == CONTENT
    assert [path.name for path in there.iterdir()] == ["f"]
    assert not way.cuts
    assert told.cuts >= len(CUTS)
    assert told.resumed, "what had arrived was gone on with"


async def test_what_is_there_of_another_file_is_begun_anew(agent: Agent, places: tuple[Path, Path]) -> None:
    here, there = places
    for place in places:
        (place / ".f.trunkline-part").write_bytes(b"another beginning" * 100_000)
        (place / ".f.trunkline-part").chmod(0o600)
    (there / "f").write_bytes(CONTENT)
    told, directory = Told(), os.open(here, os.O_PATH)
    async with called_node(BreakingWay(agent).answer, agent.kit.call_token("file:read", "file:write")) as node:
        calls = FileCalls(node)
        await copier(calls, told).download_file(RemotePlace(str(there / "f")), directory, "f", len(CONTENT))
        source = os.open(here / "f", os.O_RDONLY)
        await copier(calls, told).upload_file(source, RemotePlace(str(there / "g")))
        (there / ".f.trunkline-part").replace(there / ".g.trunkline-part")
        await copier(calls, told).upload_file(source, RemotePlace(str(there / "g")))
    os.close(directory)
    os.close(source)
    assert (here / "f").read_bytes() == (there / "g").read_bytes() == CONTENT
    assert sorted(path.name for path in there.iterdir()) == ["f", "g"]


async def test_a_source_that_became_shorter_is_begun_anew(agent: Agent, places: tuple[Path, Path]) -> None:
    here, there = places
    (here / ".f.trunkline-part").write_bytes(CONTENT[:1000])
    (here / ".f.trunkline-part").chmod(0o600)
    (there / "f").write_bytes(CONTENT[:10])
    directory = os.open(here, os.O_PATH)
    async with called_node(BreakingWay(agent).answer, agent.kit.call_token("file:read")) as node:
        place = RemotePlace(str(there / "f"))
        await copier(FileCalls(node), Told()).download_file(place, directory, "f", 10)
    os.close(directory)
    assert (here / "f").read_bytes() == CONTENT[:10]


async def test_a_tree_comes_back_as_it_went(agent: Agent, places: tuple[Path, Path]) -> None:
    here, there = places
    (there / "d" / "e").mkdir(parents=True)
    (there / "d" / "link").symlink_to("e/f")
    (there / "out").symlink_to("..")
    os.mkfifo(there / "pipe")
    for number in range(12):
        (there / "d" / "e" / f"f{number}").write_text(str(number))
    (there / "d").chmod(0o750)
    os.utime(there / "d", (1_000_000_000, 1_000_000_000))
    os.utime(there / "d" / "e" / "f0", (-5, -5))
    told = Told()
    async with called_node(BreakingWay(agent).answer, agent.kit.call_token("file:read")) as node:
        made = copier(FileCalls(node), told, keep=True)
        with beneath.directory(str(here)) as top:
            await made.download_tree(RemotePlace(str(there)), top)
    assert made.copied.files == 12
    assert sorted(path for path, _ in told.left_out) == ["out", "pipe"]
    assert (here / "d" / "link").readlink() == Path("e/f")
    assert {path.name: path.read_text() for path in (here / "d/e").iterdir()} == {f"f{n}": str(n) for n in range(12)}
    assert ((here / "d").stat().st_mode & 0o777, (here / "d").stat().st_mtime) == (0o750, 1_000_000_000)
    assert (here / "d" / "e" / "f0").stat().st_mtime == -5, "before 1970"
