"""Submissions: what was asked for as a whole, watched with one request at a time however many nodes there are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from trunkline.client.api_transport import ApiTransport, path_of
from trunkline.client.errors import TrunklineError
from trunkline.client.pages import read_pages, read_record
from trunkline.client.records.commands import Command
from trunkline.client.records.submissions import Submission
from trunkline.client.resumption import Resumption

WAIT_SECONDS = 20.0
PAUSE_SECONDS = 0.25
PAGE_SIZE = 1000


@dataclass(frozen=True, slots=True)
class Standing:
    """A submission and all of its commands, in the order of its rollout, at about one moment."""

    submission: Submission
    commands: Sequence[Command]


class SubmissionApi:
    """The submissions of one workspace."""

    def __init__(self, transport: ApiTransport, workspace: str) -> None:
        self._transport = transport
        self._workspace = workspace

    async def list(self) -> AsyncIterator[Submission]:
        """Every submission, newest first."""
        async for submission in read_pages(self._transport, self._path(), "submissions", Submission):
            yield submission

    async def get(self, submission_id: str, *, seen: str | None = None, wait_seconds: float = 0.0) -> Submission:
        """One submission; with `seen`, once its `revision` is another, or after `wait_seconds` (30 at most)."""
        query: dict[str, str | int | None] = {} if seen is None else {"seen": seen, "wait_seconds": f"{wait_seconds:g}"}
        answer = await self._transport.call("GET", self._path(submission_id), query=query)
        return read_record(Submission, answer)

    async def commands(self, submission_id: str) -> AsyncIterator[Command]:
        """The commands of a submission in the order of its rollout, as they were last heard of.

        What the submission itself says, such as `argv`, is left out of each.
        """
        path = self._path(submission_id, "commands")
        async for command in read_pages(self._transport, path, "commands", Command, page_size=PAGE_SIZE):
            yield command

    async def cancel(self, submission_id: str) -> Submission:
        """Never send what was not sent, and ask for the end of what nodes have."""
        answer = await self._transport.call("POST", self._path(submission_id, "cancel"), document={})
        return read_record(Submission, answer)

    async def watch(self, submission_id: str) -> AsyncIterator[Standing]:
        """The submission with its commands whenever something has changed, at last as it ended.

        It takes a request for each change, at most four a second, and one for each thousand commands. A control plane
        that is away is asked again, for two minutes.

        Raises:
            TrunklineError: there is no such submission, or the control plane stays away.
        """
        resumption = Resumption()
        seen: str | None = None
        while True:
            try:
                submission = await self.get(submission_id, seen=seen, wait_seconds=WAIT_SECONDS)
                commands = [command async for command in self.commands(submission_id)]
            except TrunklineError as error:
                await resumption.wait_or_raise(error)
                continue
            resumption.progress()
            yield Standing(submission, commands)
            if submission.ended:
                return
            seen = submission.revision
            await asyncio.sleep(PAUSE_SECONDS)

    def _path(self, *segments: str) -> str:
        return path_of("w", self._workspace, "api", "2.0", "submissions", *segments)
