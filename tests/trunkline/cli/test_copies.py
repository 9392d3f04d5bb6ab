"""Trees that are copied to and from directories of another user, who puts something else in their place meanwhile."""

import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.canned_relay import CannedCall
from tests.support.file_nodes import called_node
from trunkline.cli.copies import Choices, Copies
from trunkline.client.copy_listener import CopyListener
from trunkline.client.file_calls import FileCalls

VIRTUAL_TIME = True
CONTENT = b"as it was meant"
CHOICES = Choices(recursive=True, keep=True, several=False, umask=0o022)
FILE = {"path": "f", "kind": "file", "size_bytes": len(CONTENT), "mode": "644", "mtime_ns": 10**18}
TOP = {"kind": "directory", "size_bytes": 0, "mode": "755", "mtime_ns": 10**18}


def answer_with(body: bytes, fields: str = "") -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n{fields}\r\n".encode() + body


def document(**content: Any) -> bytes:
    return answer_with(json.dumps(content).encode() + b"\n")


def everything(directory: Path) -> list[Path]:
    return list(directory.rglob("*"))


def replaced(directory: Path, outside: Path) -> None:
    """Do what the owner of the directory above may do at any moment."""
    directory.rename(directory.with_name("moved"))
    directory.symlink_to(outside)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    outside = tmp_path / "outside"
    outside.mkdir()
    return outside


async def test_what_takes_the_place_of_a_new_directory_gets_nothing(tmp_path: Path, outside: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    file = CONTENT + hashlib.sha256(CONTENT).digest()
    fields = f"Trunkline-Size: {len(CONTENT)}\r\nTrunkline-Mode: 644\r\nTrunkline-Modified: 1000000000\r\n"
    listed = json.dumps({"entries": [FILE]}).encode() + b"\n" + json.dumps({"complete": True}).encode() + b"\n"

    async def answer(call: CannedCall) -> None:
        asked = urlsplit(call.head.target.decode()).path.rpartition("/")[2]
        if asked == "tree":
            replaced(theirs / "app", outside)
        answers = {"entry": document(**TOP), "tree": answer_with(listed), "content": answer_with(file, fields)}
        call.answer(answers[asked])

    async with called_node(answer) as node:
        await Copies(CHOICES, CopyListener()).fetch(FileCalls(node), "/srv/app", str(theirs))
    assert not everything(outside)
    assert (theirs / "moved" / "f").read_bytes() == CONTENT
    assert (theirs / "moved").stat().st_mtime == 1_000_000_000


async def test_what_takes_the_place_of_a_listed_directory_is_not_sent(tmp_path: Path, outside: Path) -> None:
    source, sent = tmp_path / "source", []
    source.mkdir()
    (source / "f").write_bytes(CONTENT)
    (outside / "f").write_bytes(b"a secret of ours")

    async def answer(call: CannedCall) -> None:
        asked = urlsplit(call.head.target.decode()).path.rpartition("/")[2]
        if asked == "target":
            call.answer(document(kind=None, into=False, received_bytes=0))
        elif asked == "directory":
            if not source.is_symlink():
                replaced(source, outside)
            call.answer(document())
        else:
            sent.append(await call.reader.readuntil(b"\r\n0\r\n\r\n"))
            call.answer(document(sha256=hashlib.sha256(CONTENT).hexdigest()))

    async with called_node(answer) as node:
        await Copies(CHOICES, CopyListener()).send(FileCalls(node), str(source), "/srv/app")
    assert len(sent) == 1
    assert CONTENT in sent[0]
