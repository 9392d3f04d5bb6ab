"""Workspace secrets through restarts: nodes and the control plane come back without anybody's help."""

from tests.support.sandboxes import Sandbox, wait_until

GIVEN = ("--secret-env", "ONE=vault/one")


def length_on(sandbox: Sandbox, node: str) -> bytes:
    return sandbox.trunkline("run", "--node", node, *GIVEN, "--", "sh", "-c", "echo ${#ONE}").stdout


def test_secrets_outlive_restarts_and_grants_end(revived_sandbox: Sandbox) -> None:
    sandbox = revived_sandbox
    sandbox.trunkline("secret", "create-scope", "vault")
    sandbox.trunkline("secret", "put", "vault/one", stdin=b"hunter2")
    sandbox.trunkline("secret", "grant", "vault", "--all")
    assert length_on(sandbox, "vm-2") == b"7\n"
    before = sandbox.kill("vm-2")
    wait_until(lambda: sandbox.pid("vm-2") != before, "the agent is started again")
    wait_until(lambda: length_on(sandbox, "vm-2") == b"7\n", "the agent has its secrets again, which are on no disk")
    before = sandbox.kill("control_plane")
    wait_until(lambda: sandbox.pid("control_plane") != before, "the control plane is started again")
    sandbox.trunkline("secret", "rotate-key")
    sandbox.trunkline("secret", "put", "vault/one", stdin=b"longer-than-before")
    assert length_on(sandbox, "vm-1") == b"18\n", "whoever submits after a put gets what was put"
    sandbox.trunkline("secret", "ungrant", "vault", "--all")
    refused = sandbox.trunkline("run", "--node", "vm-2", *GIVEN, "--", "true", check=False)
    assert refused.returncode == 77
