"""Brings each trust document to the disk, in a thread: a slow disk holds up nobody, and a full one is tried again."""

import asyncio
import contextlib

from certs.trust import TrustStore
from trunkline.runtime.logs import Logger
from trunkline.runtime.threads import in_thread

RETRY_SECONDS = 1.0


class TrustKeeping:
    """Keeps what the store has in force, while it runs."""

    def __init__(self, store: TrustStore, log: Logger) -> None:
        """Take over the writing from the store."""
        self._store = store
        self._log = log
        self._due = asyncio.Event()
        self._told = False
        store.store_later(self._due.set)

    async def run(self) -> None:
        """Keep for ever what is due, and try again what was not kept."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if self._store.kept else RETRY_SECONDS):
                    await self._due.wait()
            self._due.clear()
            await in_thread(self._store.keep)
            self._tell()

    def remark(self) -> str | None:
        """What an operator should know; None while the document in force is on the disk."""
        if self._store.kept:
            return None
        if self._store.unstored is not None:
            return f"the disk does not take the trust document, which a restart would lose: {self._store.unstored}"
        return "the trust document is not on the disk yet, which is slow"

    def _tell(self) -> None:
        if self._store.unstored is not None and not self._told:
            reason = str(self._store.unstored)
            self._log.error("trust.not_stored", reason=reason, consequence="it is lost by a restart until it is")
        elif self._store.kept and self._told:
            self._log.info("trust.stored")
        self._told = not self._store.kept
