"""Why a request of aiohttp's failed, in the system's words where the system has any."""

from __future__ import annotations

import aiohttp

from trunkline.channel.connecting import connect_reason


def failure_reason(error: Exception) -> str:
    """Return what an error says, without the words in which aiohttp wraps that of a connection."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    return connect_reason(cause) if isinstance(cause, OSError) else str(cause) or type(cause).__name__
