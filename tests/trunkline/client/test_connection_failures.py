"""What is told of a request that failed."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from trunkline.client.connection_failures import failure_reason

NO_KEY: Any = None


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            aiohttp.ClientConnectorError(NO_KEY, OSError(111, "Connect call failed ('127.0.0.1', 1)")),
            "Connection refused ('127.0.0.1', 1)",
        ),
        (aiohttp.ClientConnectorError(NO_KEY, ConnectionResetError("cut")), "cut"),
        (aiohttp.ServerDisconnectedError(), "Server disconnected"),
        (aiohttp.ClientPayloadError(), "ClientPayloadError"),
    ],
)
def test_a_reason_is_that_of_the_connection(error: Exception, reason: str) -> None:
    assert failure_reason(error) == reason
