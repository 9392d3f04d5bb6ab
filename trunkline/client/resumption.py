"""How long something that broke is taken up again: as long as there is progress now and then."""

from __future__ import annotations

import asyncio
import random

from trunkline.client.errors import ApiError, TrunklineError
from trunkline.runtime.backoff import Backoff

RESUME_SECONDS = 120.0
SLOWEST_ATTEMPT_SECONDS = 5.0
LONGEST_ASKED_SECONDS = 60.0
"""No service is waited for longer because it asks for it (Retry-After)."""


class Resumption:
    """The attempts of one reader: it gives up once there was no progress for `patience_seconds`; None is never."""

    def __init__(self, patience_seconds: float | None = RESUME_SECONDS) -> None:
        self._patience_seconds = patience_seconds
        self._loop = asyncio.get_running_loop()
        self._backoff = Backoff(random.SystemRandom(), cap_seconds=SLOWEST_ATTEMPT_SECONDS)
        self._broken_at: float | None = None

    def progress(self) -> None:
        """Something came: whatever broke is mended."""
        if self._broken_at is not None:
            self._broken_at = None
            self._backoff.reset()

    async def wait_or_raise(self, error: TrunklineError) -> None:
        """Wait for the next attempt.

        Raises:
            TrunklineError: `error`, as another attempt would not help, or none has helped for too long.
        """
        now = self._loop.time()
        self._broken_at = now if self._broken_at is None else self._broken_at
        patience_seconds = self._patience_seconds
        if not error.retry or (patience_seconds is not None and now - self._broken_at > patience_seconds):
            raise error
        asked_seconds = error.retry_after_seconds or 0.0 if isinstance(error, ApiError) else 0.0
        asked_seconds = min(asked_seconds, LONGEST_ASKED_SECONDS)
        await asyncio.sleep(self._backoff.next_delay_seconds(now, at_least_seconds=asked_seconds))
