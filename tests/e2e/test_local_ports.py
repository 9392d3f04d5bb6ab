"""The local ports of `trunkline forward` and `trunkline proxy`, with programs that know nothing of Trunkline."""

import asyncio
import json
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.node_services import echo_service, http_service, pattern
from tests.support.sandboxes import Sandbox, allow_ports


@asynccontextmanager
async def local_port(sandbox: Sandbox, *words: str) -> AsyncIterator[tuple[int, subprocess.Popen[bytes]]]:
    """Start a command that opens a local port; gives the port and the process."""
    process = await asyncio.to_thread(sandbox.start, *words)
    assert process.stdout is not None
    try:
        line = (await asyncio.to_thread(process.stdout.readline)).decode()
        address = next(word for word in line.split() if "127.0.0.1:" in word)
        yield int(address.rpartition(":")[2]), process
    finally:
        process.kill()
        process.communicate()


async def interrupted(process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGINT) -> tuple[int, str]:
    """Ctrl-C, or another signal: the exit status, and what was said on standard error."""
    process.send_signal(number)
    _, said = await asyncio.to_thread(process.communicate, None, 30)
    return process.returncode, said.decode()


@pytest.mark.usefixtures("hangups_end")
async def test_forward_leads_to_a_port_and_ends_quietly_with_a_connection_open(sandbox: Sandbox) -> None:
    async with echo_service() as echo_port:
        await asyncio.to_thread(allow_ports, sandbox, "vm-1", [echo_port])
        async with local_port(sandbox, "forward", f"vm-1:{echo_port}") as (port, process):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            content = pattern(1_000_000)
            writer.write(content)
            writer.write_eof()
            assert await reader.read(-1) == content
            writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"a part")
            assert await reader.readexactly(6) == b"a part"
            assert await interrupted(process, signal.SIGHUP) == (0, ""), "as Ctrl-C, which the proxy is sent"
            with pytest.raises(ConnectionResetError):
                await reader.read(-1)
            writer.close()


async def test_proxy_leads_to_every_node_of_the_workspace_and_nowhere_else(sandbox: Sandbox) -> None:
    async with http_service() as http_port:
        await asyncio.to_thread(allow_ports, sandbox, "vm-1", [http_port])
        async with local_port(sandbox, "proxy") as (port, process):

            async def curl(*arguments: str) -> bytes:
                command = ["curl", "--silent", "--max-time", "60", "--proxy", f"http://127.0.0.1:{port}", *arguments]
                return (await asyncio.to_thread(subprocess.run, command, capture_output=True, check=False)).stdout

            host = f"vm-1.{sandbox.description['workspace']}.trunk.internal"
            assert json.loads(await curl(f"http://{host}/v1/health"))["node_id"].startswith("nd-")
            assert await curl("--proxytunnel", f"http://{host}:{http_port}/bytes/70000") == pattern(70_000)
            uploaded = json.loads(await curl("--data-binary", "x" * 100_000, f"http://{host}:{http_port}/digest"))
            assert uploaded["size"] == 100_000
            refused = await curl("--write-out", "\n%{http_code}", "http://example.com/")
            assert refused.splitlines()[-1] == b"403"
            assert json.loads(refused.splitlines()[0])["error_code"] == "PERMISSION_DENIED"
            assert await interrupted(process) == (0, "")
