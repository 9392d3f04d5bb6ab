"""Calls about files to a node's agent: what is there, listings, hashes, contents, directories and links."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote

from trunkline.client.errors import ApiError, BadResponse, DeadlineExceeded, TrunklineError
from trunkline.client.node import FILE_READ, FILE_WRITE
from trunkline.client.node_response import NodeResponse, read_error
from trunkline.files.names import NameRefused, parts_of
from trunkline.files.trees import TreeEntry

SILENCE_SECONDS = 30.0
"""A node that works says something more often than this."""
LARGEST_LINE_BYTES = 8 * 1024 * 1024
MOST_ENTRIES = 1_000_000
MOST_LISTED_CHARACTERS = 256 * 1024 * 1024
"""Of all names and targets of links in a listing together, which is held until everything is copied."""
LONGEST_PROBLEM = 1_000
LONGEST_TARGET_BYTES = 7_500
Query = Mapping[str, str | int | None]
_NUMBER = re.compile(r"-?[0-9]{1,19}", re.ASCII)
"""What was changed before 1970 has a negative time."""
_KINDS = frozenset({"file", "directory", "link", "other"})


class RemotePlace(NamedTuple):
    """A path on a node as somebody wrote it, and names beneath it, which no link leads out of."""

    path: str
    below: str = ""

    def inside(self, name: str) -> RemotePlace:
        """A name beneath this."""
        return RemotePlace(self.path, f"{self.below}/{name}" if self.below else name)


@dataclass(frozen=True, slots=True)
class RemoteEntry:
    """What is at a place: its kind (`file`, `directory`, `link` or `other`), size, permissions and time of change."""

    kind: str
    size_bytes: int
    mode: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class RemoteTarget:
    """What is where something is to go; `into` says that it goes into the directory that was named."""

    kind: str | None
    into: bool
    received_bytes: int


@dataclass(frozen=True, slots=True)
class RemoteContent:
    """The bytes of a file from an offset on; behind them come the 32 bytes of their SHA-256."""

    entry: RemoteEntry
    pieces: AsyncIterator[bytes]


class Calling(Protocol):
    """What is needed of `Node`."""

    async def request(
        self, method: str, path: str, *, scopes: tuple[str, ...], body: AsyncIterable[bytes] | None = None
    ) -> NodeResponse:
        """Make one call to the node's agent."""
        ...


class FileCalls:
    """Calls about files of one node, as one of its users; each is made once, and raises `TrunklineError`."""

    def __init__(self, node: Calling, user: str | None = None) -> None:
        self._node = node
        self._user = user

    async def entry(self, place: RemotePlace) -> RemoteEntry:
        """What is at a place."""
        return _entry(await self._document("GET", "entry", FILE_READ, place))

    async def tree(self, place: RemotePlace) -> list[TreeEntry]:
        """Everything beneath a directory, as the node names it: paths are checked, and nothing else is believed."""
        entries: list[TreeEntry] = []
        left_characters = MOST_LISTED_CHARACTERS
        async with self._answer("GET", "tree", FILE_READ, place) as response:
            async for line in _lines(response):
                if line.get("complete"):
                    return entries
                for entry in map(_tree_entry, _list(line.get("entries", []))):
                    entries.append(entry)
                    left_characters -= len(entry.path) + len(entry.target) + len(entry.problem)
                    if len(entries) > MOST_ENTRIES or left_characters < 0:
                        raise BadResponse(f"the node lists more than {MOST_ENTRIES} files, or too long names")
        raise BadResponse("the node's listing has no end")

    async def digest(self, place: RemotePlace, length_bytes: int) -> str:
        """The SHA-256 of the beginning of a file."""
        async with self._answer("GET", "digest", FILE_READ, place, {"length": length_bytes}) as response:
            return str((await _last_line(response)).get("sha256"))

    @contextlib.asynccontextmanager
    async def content(self, place: RemotePlace, offset: int) -> AsyncIterator[RemoteContent]:
        """Open a file at an offset."""
        async with self._answer("GET", "content", FILE_READ, place, {"offset": offset}) as response:
            entry = RemoteEntry(
                "file",
                _number(response.get("trunkline-size")),
                _octal(response.get("trunkline-mode")),
                _number(response.get("trunkline-modified")),
            )
            yield RemoteContent(entry, _pieces(response))

    async def target(self, place: RemotePlace, name: str | None = None) -> RemoteTarget:
        """What is where something is to go: at the place, or as `name` in it if that is a directory."""
        document = await self._document("GET", "target", FILE_WRITE, place, name=name)
        kind = document.get("kind")
        known = kind if isinstance(kind, str) else None
        return RemoteTarget(known, document.get("into") is True, _number(document.get("received_bytes")))

    async def put(self, place: RemotePlace, body: AsyncIterable[bytes], query: Query) -> str:
        """Send a file, and behind it the SHA-256 of the whole; returns the SHA-256 of what is there now."""
        async with self._answer("PUT", "content", FILE_WRITE, place, query, body) as response:
            return str((await _last_line(response)).get("sha256"))

    async def make_directory(self, place: RemotePlace, entry: TreeEntry | None = None) -> None:
        """Make a directory, or give one the permissions and time of `entry`."""
        mode = None if entry is None else f"{entry.mode:03o}"
        mtime_ns = None if entry is None else max(0, entry.mtime_ns)
        await self._document("PUT", "directory", FILE_WRITE, place, mode=mode, mtime_ns=mtime_ns)

    async def make_link(self, place: RemotePlace, target: str) -> None:
        """Make a symbolic link."""
        await self._document("PUT", "link", FILE_WRITE, place, target=target)

    async def _document(
        self, method: str, what: str, scope: str, place: RemotePlace, **query: str | int | None
    ) -> dict[str, Any]:
        async with self._answer(method, what, scope, place, query) as response:
            document = await response.json()
        if not isinstance(document, dict):
            raise BadResponse("the node's answer is no document")
        return document

    @contextlib.asynccontextmanager
    async def _answer(
        self, method: str, what: str, scope: str, place: RemotePlace, query: Query | None = None,
        body: AsyncIterable[bytes] | None = None,
    ) -> AsyncIterator[NodeResponse]:  # fmt: skip
        asked = {"path": place.path, "below": place.below or None, "user": self._user, **(query or {})}
        words = [f"{key}={_quoted(value)}" for key, value in asked.items() if value is not None]
        target = f"/v1/files/{what}?{'&'.join(words)}"
        if len(target) > LONGEST_TARGET_BYTES:
            raise PathTooLong("the path is too long to be asked for")
        async with await self._node.request(method, target, scopes=(scope,), body=body) as response:
            if response.status >= 300:
                raise await read_error(response, "the node answered")
            yield response


class PathTooLong(TrunklineError):  # noqa: N818 - named for what happened
    """A path is longer than a request can carry."""


async def _pieces(response: NodeResponse) -> AsyncIterator[bytes]:
    """The body as it comes; a node that is silent for too long is given up."""
    pieces = response.chunks()
    while True:
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                piece = await anext(pieces, b"")
        except TimeoutError:
            raise DeadlineExceeded(f"nothing came from the node for {SILENCE_SECONDS:g} s") from None
        if not piece:
            return
        yield piece


async def _lines(response: NodeResponse) -> AsyncIterator[dict[str, Any]]:
    """The lines of an answer, without those that only say that the node is at it.

    Raises:
        ApiError: a line says that it went wrong.
    """
    held = b""
    async for piece in _pieces(response):
        *lines, held = (held + piece).split(b"\n")
        if len(held) > LARGEST_LINE_BYTES:
            raise BadResponse("a line of the node's answer is too long")
        for line in lines:
            document = _document(line)
            if "error" in document:
                raise _error(document["error"])
            if document:
                yield document


async def _last_line(response: NodeResponse) -> dict[str, Any]:
    last: dict[str, Any] = {}
    async for line in _lines(response):
        last = line
    if not last:
        raise BadResponse("the node's answer has no end")
    return last


def _document(line: bytes) -> dict[str, Any]:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise BadResponse("a line of the node's answer is no document")
    return document


def _error(document: Any) -> TrunklineError:
    if not isinstance(document, dict) or not isinstance(document.get("status"), int):
        return BadResponse("the node says in no known form that something went wrong")
    details = document.get("details")
    added = [details] if isinstance(details, dict) else []
    code, message = str(document.get("error_code", "")), str(document.get("message", ""))
    return ApiError(document["status"], code, message, details=added)


def _entry(document: Mapping[str, Any]) -> RemoteEntry:
    kind, mode = document.get("kind"), document.get("mode")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise BadResponse("the node names no known kind of file")
    return RemoteEntry(kind, _number(document.get("size_bytes")), _octal(mode), _number(document.get("mtime_ns")))


def _tree_entry(document: Any) -> TreeEntry:
    """An entry of a listing.

    Raises:
        BadResponse: it is none, or its path is not beneath the directory.
    """
    if not isinstance(document, dict):
        raise BadResponse("the node's listing is broken")
    known, path = _entry(document), document.get("path")
    target, problem = str(document.get("target", "")), document.get("problem", "")
    try:
        if not isinstance(path, str) or not parts_of(path):
            raise NameRefused("a path is missing")
        os.fsencode(target)
    except (NameRefused, UnicodeEncodeError) as error:
        raise BadResponse(f"the node lists what cannot be beneath the directory: {error}") from None
    return TreeEntry(
        path, known.kind, known.size_bytes, known.mode, known.mtime_ns, target, str(problem)[:LONGEST_PROBLEM]
    )


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise BadResponse("the node's listing is broken")
    return value


def _number(value: Any) -> int:
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = int(value)
    if not isinstance(value, int) or not -(2**63) <= value < 2**63:
        raise BadResponse("the node says a number that is none")
    return value


def _octal(value: Any) -> int:
    if not isinstance(value, str) or len(value) != 3 or not set(value) <= set("01234567"):
        raise BadResponse("the node says permissions that are none")
    return int(value, 8)


def _quoted(value: str | int) -> str:
    return quote(str(value).encode("utf-8", "surrogateescape"), safe="/")
