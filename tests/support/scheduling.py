"""Which tests xdist keeps on one worker: those that share daemons, which take seconds to start."""

from xdist.scheduler import LoadScopeScheduling

E2E = "tests/e2e/"
SHARING_THE_SESSIONS_SANDBOX = (
    "test_commands.py",
    "test_doors.py",
    "test_hostile_bytes.py",
    "test_input_whole.py",
    "test_listings.py",
    "test_local_ports.py",
    "test_secrets_stay_secret.py",
    "test_shell.py",
    "test_token_matrix.py",
)


class SandboxesTogether(LoadScopeScheduling):
    """Hands out single tests, but those of an end-to-end file together, and first, since they take longest.

    The files that use the sandbox of the session are one; any other starts daemons of its own.
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        if not path.startswith(E2E):
            return nodeid
        return E2E if path.endswith(SHARING_THE_SESSIONS_SANDBOX) else path
