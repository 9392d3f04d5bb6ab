"""Where the paths lead that are among a named command's parameters: asked of the file system before admission.

Following a path may block, on a file system that does not answer; so it is done in threads of their own, few at once,
and within a deadline. Only paths that the owner's rules allow by their text are followed at all.
"""

import asyncio
from collections.abc import Callable
from posixpath import realpath

from node_agent.commands.errors import CommandRefused, RefusalReason
from node_agent.commands.submission import Submission
from node_agent.policy_file import PolicySource
from trunkline.runtime.threads import started_threads

FOLLOW_SECONDS = 5.0
MOST_THREADS = 4


class ParameterPaths:
    """Follows paths."""

    def __init__(
        self,
        policy: PolicySource,
        *,
        follow: Callable[[str], str] = realpath,
        timeout_seconds: float = FOLLOW_SECONDS,
    ) -> None:
        self._policy = policy
        self._follow = follow
        self._timeout_seconds = timeout_seconds
        self._threads = started_threads(MOST_THREADS, "trunkline-paths")

    async def followed(self, submission: Submission) -> dict[str, str]:
        """Return where each path of the submission's parameters leads, and the directories that it must be beneath.

        Raises:
            CommandRefused: the file system does not answer.
        """
        named = self._policy.current.commands.named.get(submission.named or "")
        paths = set() if named is None else set(named.paths_in(submission.parameters))
        if not paths:
            return {}
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await asyncio.get_running_loop().run_in_executor(self._threads, self._all, paths)
        except TimeoutError:
            raise CommandRefused(
                RefusalReason.NO_STORAGE, "the file system that a parameter is on does not answer"
            ) from None

    def close(self) -> None:
        """Wait for nothing: what is being followed is left to itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _all(self, paths: set[str]) -> dict[str, str]:
        return {path: self._follow(path) for path in paths}
