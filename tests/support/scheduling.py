"""Which tests xdist keeps on one worker, since they share daemons that take seconds to start, and which go first."""

from collections.abc import Iterator

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

E2E = "tests/e2e/"
INTEROP = "tests/interop/"
"""Each worker that runs one of these builds the foreign peers, so one runs them all."""
SHARING_THE_SESSIONS_SANDBOXES = (
    "test_commands.py",
    "test_copy.py",
    "test_doors.py",
    "test_hostile_bytes.py",
    "test_input_whole.py",
    "test_listings.py",
    "test_local_ports.py",
    "test_secrets_stay_secret.py",
    "test_shell.py",
    "test_token_matrix.py",
    "test_workspace_secrets.py",
)


LONGEST_FIRST = (
    *SHARING_THE_SESSIONS_SANDBOXES,
    "test_renewal.py",
    "test_commands_survive.py",
    "test_exactly_once.py",
    "test_rotation.py",
    "test_outages.py",
    "test_restore.py",
)
"""End-to-end files that nobody should begin when all others are about to end."""
CRASHES = "tests/control_plane/rotation/test_crash.py"


def turn(nodeid: str) -> int:
    """Where in the order of all tests this one is, the lowest first; equals stay in the order of their names."""
    path = nodeid.partition("::")[0]
    name = path.rpartition("/")[2]
    if not path.startswith(E2E):
        return len(LONGEST_FIRST) + (1 if path == CRASHES else 2)
    return LONGEST_FIRST.index(name) if name in LONGEST_FIRST else len(LONGEST_FIRST)


class SandboxesTogether(LoadScopeScheduling):
    """Hands out whole files, so that what a module's tests share is made once, and workers seldom wait for more.

    The end-to-end files that use the sandboxes of the session are one; any other starts daemons of its own. End-to-end
    tests wait for daemons more than they compute, so three of four workers (one of two) begin with them, and the rest
    with the other tests: then the processors have something to do meanwhile, and at the end, when small files that only
    compute are left, all workers have enough of them. Whoever finds no more of its own kind takes of the other.
    """

    def __init__(self, config: pytest.Config, log: Producer) -> None:
        """Keep to the order in which `turn` has put the tests."""
        super().__init__(config, log)
        config.option.loadscopereorder = False
        self._few_files = False

    def schedule(self) -> None:
        """Hand out the first, or more; where there are too few files for all workers, they go test by test."""
        if self.collection is None:
            names = next(iter(self.registered_collections.values()))
            self._few_files = len({name.partition("::")[0] for name in names}) < 2 * len(self.nodes)
        super().schedule()

    def remove_node(self, node: WorkerController) -> str | None:
        """Take over what a worker has left that crashed; returns the test that it crashed in.

        Files that it was done with are not handed out again: whoever got one would have nothing to say of it, and wait.
        """
        files = self.assigned_work[node]
        for done in [file for file, tests in files.items() if all(tests.values())]:
            del files[done]
        crashed: str | None = super().remove_node(node)
        return crashed

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        if path.startswith(INTEROP):
            return INTEROP
        if path.startswith(E2E):
            return E2E if path.endswith(SHARING_THE_SESSIONS_SANDBOXES) else path
        return nodeid if self._few_files or path == CRASHES else path

    def _assign_work_unit(self, node: WorkerController) -> None:
        self.workqueue.move_to_end(self._next_for(node), last=False)
        super()._assign_work_unit(node)

    def _next_for(self, node: WorkerController) -> str:
        first: str = next(iter(self.workqueue))
        if self.nodes.index(node) % 4 != 1 or not first.startswith(E2E):
            return first
        others: Iterator[str] = (scope for scope in self.workqueue if not scope.startswith(E2E))
        return next(others, first)
