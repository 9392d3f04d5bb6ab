"""Yamux peers that are not ours: a Go program on hashicorp/yamux and a Node.js one on yamux-js, as child processes."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

INTEROP = Path(__file__).parents[1] / "interop"
GO_LIBRARIES = Path("/usr/share/gocode")
YAMUX_JS = "yamux-js@0.2.0"
YAMUX_JS_SHA512 = (
    "1921465086765337751f6578c0f5a3e4563c5cd83ce2e8fbb41c5bc34671820d"
    "6135e9b1fc3e6179cfbdad52d30e9dd3847b01e9e81035440aaee581296d1561"
)


def build_go_peer(directory: Path) -> Path:
    """Compile the Go peer, without network; skips the test where there is no Go or no library."""
    if shutil.which("go") is None:
        pytest.skip("the Go toolchain is not installed")
    if not (GO_LIBRARIES / "src/github.com/hashicorp/yamux").is_dir():
        pytest.skip("the Go library hashicorp/yamux is not installed")
    binary = directory / "go_peer"
    environment = {"GO111MODULE": "off", "GOPATH": str(GO_LIBRARIES), "GOFLAGS": "", "GOTOOLCHAIN": "local"}
    subprocess.run(
        ["go", "build", "-o", str(binary), "."],
        cwd=INTEROP / "go_peer",
        env=os.environ | environment,
        check=True,
        timeout=300,
    )
    return binary


def fetch_yamux_js(directory: Path) -> Path:
    """Unpack yamux-js, fetched once, and checked; skips the test where there is no Node.js or nothing to fetch from."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node.js and npm are not installed")
    package = directory / "package"
    if not package.is_dir():
        answer = subprocess.run(["npm", "pack", "--silent", YAMUX_JS], cwd=directory, check=False, timeout=120)
        if answer.returncode:
            pytest.skip("npm could not fetch yamux-js")
        archive = directory / "yamux-js-0.2.0.tgz"
        assert hashlib.sha512(archive.read_bytes()).hexdigest() == YAMUX_JS_SHA512
        # Not by `tarfile`: newer Pythons want a filter named, which those before 3.11.4 do not know.
        subprocess.run(["tar", "-xzf", archive, "-C", directory], check=True, timeout=60)
    return package


class ForeignPeer:
    """A running peer; it says what happens, one line each."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.lines: list[str] = []

    async def wait_for(self, word: str) -> str:
        """Return the next line that begins with the word."""
        assert self._process.stdout is not None
        while line := (await self._process.stdout.readline()).decode().strip():
            self.lines.append(line)
            if line.split()[0] == word:
                return line
        raise AssertionError(f"the peer ended without saying {word!r}; it said {self.lines}")

    async def wait_for_end(self) -> int:
        """Wait until the process has ended; returns its exit status."""
        return await self._process.wait()


@asynccontextmanager
async def running_peer(command: list[str], environment: Mapping[str, str] | None = None) -> AsyncIterator[ForeignPeer]:
    """A peer as a child process, killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, env={**os.environ, **(environment or {})}
    )
    try:
        yield ForeignPeer(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
