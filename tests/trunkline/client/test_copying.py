"""Copying from nodes that somebody has taken over: nothing is written but where it was asked for."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.canned_relay import Answering, CannedCall
from tests.support.file_nodes import called_node
from tests.support.still_disk import a_disk_that_stands_still
from trunkline.client.copy_listener import CopyListener
from trunkline.client.copying import Copier
from trunkline.client.downloads import ContentDiffers
from trunkline.client.errors import ApiError, BadResponse, CallInterrupted, TrunklineError
from trunkline.client.file_calls import FileCalls, RemotePlace
from trunkline.files.beneath import NotRegular, directory

VIRTUAL_TIME = True
HOSTILE = b"written by the node"
PLACE = RemotePlace("/srv")


def entry(path: Any, kind: Any = "file", **more: Any) -> dict[str, Any]:
    return {"path": path, "kind": kind, "size_bytes": len(HOSTILE), "mode": "777", "mtime_ns": 10**18, **more}


def listing(*entries: Any) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in ({"entries": list(entries)}, {"complete": True}))


def content(body: bytes, digest: bytes | None = None, size: int | None = None) -> bytes:
    tail = hashlib.sha256(body).digest() if digest is None else digest
    fields = (
        f"Trunkline-Size: {len(body) if size is None else size}\r\nTrunkline-Mode: 777\r\n"
        f"Trunkline-Modified: 1000000000\r\nContent-Length: {len(body) + len(tail)}\r\n\r\n"
    )
    return b"HTTP/1.1 200 OK\r\n" + fields.encode() + body + tail


def whole(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def saying(answers: dict[str, bytes]) -> Answering:
    async def answer(call: CannedCall) -> None:
        call.answer(answers[urlsplit(call.head.target.decode()).path.removeprefix("/v1/files/")])

    return answer


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    root = tmp_path / "root"
    root.mkdir()
    (root / "ours").symlink_to(tmp_path / "outside")
    return root


def everything(path: Path) -> set[str]:
    return {str(found.relative_to(path)) for found in path.rglob("*")}


async def fetch_tree(answers: dict[str, bytes], root: Path) -> list[str]:
    left_out: list[str] = []
    listener = CopyListener(left_out=lambda path, reason: left_out.append(path))
    async with called_node(saying(answers)) as node:
        with directory(str(root)) as top:
            await Copier(FileCalls(node), keep=True, umask=0o022, listener=listener).download_tree(PLACE, top)
    return left_out


@pytest.mark.parametrize(
    "named",
    [
        entry("../outside/x"), entry("/etc/x"), entry("a/../../outside/x"), entry(".."), entry(""), entry("a//b"),
        entry("a\0"), entry(7), entry("a" * 300), entry("a/" * 500 + "b"), entry("\ud800"), entry(".x.trunkline-part"),
        entry("a", "device"), entry("a", None), entry("a", []), entry("a", {}), entry("a", "link", target="\ud800"),
        entry("a", mode="4777"), entry("a", mtime_ns="x"), "a", 5,
        entry("a", size_bytes=10**30), entry("../outside", "directory"), entry("../outside/l", "link", target="x"),
    ],
    ids=repr,
)  # fmt: skip
async def test_a_listing_that_names_what_cannot_be_ends_everything(root: Path, tmp_path: Path, named: Any) -> None:
    before = everything(tmp_path)
    with pytest.raises(BadResponse):
        await fetch_tree({"tree": whole(listing(entry("good"), named)), "content": content(HOSTILE)}, root)
    assert everything(tmp_path) == before


async def test_no_link_is_written_through_neither_ours_nor_theirs(root: Path, tmp_path: Path) -> None:
    listed = [
        entry("ours/x"),
        entry("ours/d", "directory"),
        entry("ours", "directory"),
        entry("theirs", "link", target="good"),
        entry("theirs/x"),
        entry("up", "link", target="../outside"),
        entry("up/x"),
        entry("absolute", "link", target=str(tmp_path / "outside")),
        entry("absolute/x"),
        entry("good", "directory"),
        entry("good/hop", "link", target=".."),
        entry("good/hop/x"),
        entry("round", "link", target="good/hop/../../outside"),
        entry("good/f"),
    ]
    left_out = await fetch_tree({"tree": whole(listing(*listed)), "content": content(HOSTILE)}, root)
    assert everything(tmp_path / "outside") == set()
    assert everything(root) == {"ours", "theirs", "good", "good/f", "good/hop"}
    assert (root / "good" / "f").read_bytes() == HOSTILE
    assert (root / "good" / "f").stat().st_mode & 0o7000 == 0
    assert set(left_out) == {
        "ours/x", "ours/d", "ours", "theirs/x", "up", "up/x", "absolute", "absolute/x", "good/hop/x", "round",
    }  # fmt: skip


async def test_a_program_goes_on_while_its_disk_takes_what_is_copied(root: Path) -> None:
    listed = [entry("d", "directory"), entry("d/f"), entry("d/l", "link", target="f")]
    with a_disk_that_stands_still() as disk:
        disk.move()
        assert await fetch_tree({"tree": whole(listing(*listed)), "content": content(HOSTILE)}, root) == []
    assert everything(root) == {"ours", "d", "d/f", "d/l"}


async def test_a_listing_that_ends_early_is_no_listing(root: Path) -> None:
    with pytest.raises(BadResponse):
        await fetch_tree({"tree": whole(json.dumps({"entries": [entry("a")]}).encode() + b"\n")}, root)
    error = {"error": {"status": 404, "error_code": "RESOURCE_DOES_NOT_EXIST", "message": "gone"}}
    with pytest.raises(ApiError, match="gone"):
        await fetch_tree({"tree": whole(json.dumps(error).encode() + b"\n")}, root)


async def fetch_file(answers: dict[str, bytes], root: Path) -> None:
    within = os.open(root, os.O_PATH)
    try:
        async with called_node(saying(answers)) as node:
            copier = Copier(FileCalls(node), keep=False, umask=0o022, listener=CopyListener())
            await copier.download_file(PLACE, within, "f", len(HOSTILE))
    finally:
        os.close(within)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (content(HOSTILE, b"\0" * 32), ContentDiffers),
        (content(HOSTILE, b""), BadResponse),
        (content(HOSTILE, size=3), BadResponse),
        (content(b"", b"short"), BadResponse),
        (whole(HOSTILE), BadResponse),
        (whole(b"{}", "403 Forbidden"), ApiError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\nTrunkline-Size: 9\r\n\r\n", BadResponse),
        (content(HOSTILE)[:-10], CallInterrupted),
    ],
)
async def test_what_is_no_whole_file_leaves_the_target_as_it_was(
    root: Path, answer: bytes, error: type[TrunklineError]
) -> None:
    (root / "f").write_text("before")
    with pytest.raises(error):
        await fetch_file({"content": answer, "digest": whole(b'{"sha256":"x"}\n')}, root)
    assert (root / "f").read_text() == "before"


async def test_what_is_no_file_here_is_not_replaced(root: Path) -> None:
    os.mkfifo(root / "f")
    with pytest.raises(NotRegular):
        await fetch_file({"content": content(HOSTILE)}, root)
    assert (root / "f").is_fifo()


async def test_one_way_cannot_be_asked_for_is_left_out_and_the_policy_ends_everything(root: Path) -> None:
    long = "/".join(["ü" * 120] * 16)
    denied = json.dumps({"error_code": "POLICY_DENIED", "message": "no"}).encode()
    answers = {"tree": whole(listing(entry("a"), entry("b"))), "content": whole(denied, "403 Forbidden")}
    with pytest.raises(ApiError, match="no"):
        await fetch_tree(answers, root)
    answers = {"tree": whole(listing(entry(long), entry("b"))), "content": content(HOSTILE)}
    assert await fetch_tree(answers, root) == [long]
    assert (root / "b").read_bytes() == HOSTILE


async def test_a_listing_of_long_names_is_bounded_as_one_of_many(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trunkline.client.file_calls.MOST_LISTED_CHARACTERS", 2_000)
    links = [entry(f"l{number}", "link", target="t" * 900) for number in range(3)]
    with pytest.raises(BadResponse, match="too long names"):
        await fetch_tree({"tree": whole(listing(*links))}, root)
    explained = [entry(f"o{number}", "other", problem="p" * 100_000) for number in range(2)]
    with pytest.raises(BadResponse, match="too long names"):
        await fetch_tree({"tree": whole(listing(*explained))}, root)
