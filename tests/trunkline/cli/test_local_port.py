"""What a local program sees of a connection that leads nowhere."""

from __future__ import annotations

import asyncio

import pytest

from trunkline.cli import local_port
from trunkline.cli.local_port import serve_local_port
from trunkline.client.errors import Unreachable


@pytest.mark.parametrize("most", [local_port.MOST_CONNECTIONS, 0])
async def test_it_is_a_reset_and_no_clean_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], most: int
) -> None:
    monkeypatch.setattr(local_port, "MOST_CONNECTIONS", most)
    opened: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def fail(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise Unreachable("the node is away")

    serving = asyncio.create_task(serve_local_port(0, fail, opened.set_result))
    reader, writer = await asyncio.open_connection("127.0.0.1", await opened)
    with pytest.raises(ConnectionResetError):
        await reader.read(-1)
    writer.close()
    serving.cancel()
    await asyncio.wait([serving])
    assert ("the node is away" if most else "0 are open already") in capsys.readouterr().err
