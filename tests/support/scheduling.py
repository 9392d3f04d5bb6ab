"""Which tests xdist keeps on one worker: those that share a sandbox, which takes seconds to start."""

from xdist.scheduler import LoadScopeScheduling

E2E = "tests/e2e/"
WITH_SANDBOXES_OF_THEIR_OWN = ("test_outages.py", "test_networks.py", "test_renewal.py")


class SandboxesTogether(LoadScopeScheduling):
    """Hands out single tests, but those of a sandbox all to the same worker, and first, since they take longest."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        if not path.startswith(E2E):
            return nodeid
        return path if path.endswith(WITH_SANDBOXES_OF_THEIR_OWN) else E2E
