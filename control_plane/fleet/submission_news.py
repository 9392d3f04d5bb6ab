"""What is new about submissions: waiting for a change of one, or of any, without asking the database again and again.

Nothing here is durable: a revision says only whether something may have changed since it was given. One from another
process, or one that was forgotten, differs from the present one, and so is answered at once.
"""

import asyncio
import contextlib
import secrets
from collections import defaultdict

from control_plane.storage.submissions import SubmissionKey

REMEMBERED = 10_000


class SubmissionNews:
    """Tells those who wait that commands of a submission have changed."""

    def __init__(self) -> None:
        self._process = secrets.token_hex(4)
        self._count = 0
        self._counts: dict[SubmissionKey, int] = {}
        self._waiting: defaultdict[SubmissionKey, set[asyncio.Event]] = defaultdict(set)
        self._untaken: set[SubmissionKey] = set()
        self._any = asyncio.Event()

    def tell(self, submission: SubmissionKey) -> None:
        """Something of it has changed, durably."""
        self._count += 1
        self._counts.pop(submission, None)
        self._counts[submission] = self._count
        if len(self._counts) > REMEMBERED:
            del self._counts[next(iter(self._counts))]
        self._untaken.add(submission)
        self._any.set()
        for event in self._waiting.get(submission, ()):
            event.set()

    def workspace_ended(self, workspace_id: str) -> None:
        """A workspace was deleted, durably: who waits for what was in it finds that it is gone."""
        self._process = secrets.token_hex(4)  # no revision is what it was: a wait may be about to begin
        for submission, events in self._waiting.items():
            if submission.workspace_id == workspace_id:
                for event in events:
                    event.set()

    def revision(self, submission: SubmissionKey) -> str:
        """Return what is different after each change; to be read before the submission itself is."""
        return f"{self._process}-{self._counts.get(submission, 0)}"

    async def wait(self, submission: SubmissionKey, seen: str, timeout_seconds: float) -> None:
        """Wait until the revision is another one than `seen`, for so long at most."""
        event = asyncio.Event()
        self._waiting[submission].add(event)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_seconds):
                    if self.revision(submission) == seen:
                        await event.wait()
        finally:
            self._waiting[submission].discard(event)
            if not self._waiting[submission]:
                del self._waiting[submission]

    async def take(self, timeout_seconds: float | None) -> set[SubmissionKey]:
        """Return what was told of since the last time, once there is something or the time is over; for one reader."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._any.wait()
        self._any.clear()
        taken, self._untaken = self._untaken, set()
        return taken
