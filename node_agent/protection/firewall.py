"""How the system's firewall is spoken to: through its own commands, by argument list, with rules on standard input."""

import asyncio
import contextlib
import os
import shutil
from collections.abc import Collection
from typing import BinaryIO, Protocol

from node_agent.commands.process import SEARCH_PATH

TOOL_SECONDS = 20.0
LONGEST_REASON = 300


class FirewallUnavailable(Exception):  # noqa: N818 - an expected refusal
    """The firewall does not do it; the message says why."""


class Firewall(Protocol):
    """Keeps users from the metadata addresses."""

    name: str

    async def apply(self, uids: Collection[int]) -> None:
        """Block these users, and no others."""
        ...

    async def intact(self) -> bool:
        """Whether what was applied is still there."""
        ...

    async def remove(self) -> None:
        """Block nobody, and leave nothing behind."""
        ...


class Tool:
    """Runs one of the system's programs, which is looked for in the system's directories only."""

    def __init__(self, *, search_path: str = SEARCH_PATH, environment: dict[str, str] | None = None) -> None:
        self._search_path = search_path
        self._environment = {"PATH": search_path, "LC_ALL": "C"} | (environment or {})

    async def run(self, program: str, *arguments: str, content: str = "") -> bytes:
        """Run it with `content` as its standard input, and return what it writes.

        Raises:
            FirewallUnavailable: it is not there, it fails, or it takes more than `TOOL_SECONDS`.
        """
        path = shutil.which(program, path=self._search_path)
        if path is None:
            raise FirewallUnavailable(f"{program} is not installed")
        try:
            with _file_in_memory(content.encode()) as standard_input:
                process = await asyncio.create_subprocess_exec(
                    path,
                    *arguments,
                    stdin=standard_input,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                    env=self._environment,
                    cwd="/",
                )
        except OSError as error:
            raise FirewallUnavailable(f"{program} cannot be run: {error.strerror}") from None
        return await _finished(program, process)


def _file_in_memory(content: bytes) -> BinaryIO:
    """Return an open file that has the content, and no name.

    A program that reads nothing may end before anything is written to a pipe of it, which uvloop takes for a fault.
    """
    file = os.fdopen(os.memfd_create("rules", os.MFD_CLOEXEC), "w+b", buffering=0)
    file.write(content)
    file.seek(0)
    return file


async def _finished(program: str, process: asyncio.subprocess.Process) -> bytes:
    try:
        async with asyncio.timeout(TOOL_SECONDS):
            output, complaint = await process.communicate()
    except TimeoutError:
        raise FirewallUnavailable(f"{program} did not end within {TOOL_SECONDS:g} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode:
        lines = complaint.decode("utf-8", "replace").strip().splitlines() or [f"exit status {process.returncode}"]
        raise FirewallUnavailable(f"{program}: {lines[0]}"[:LONGEST_REASON])
    return output
