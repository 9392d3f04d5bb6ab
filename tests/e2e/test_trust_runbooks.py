"""The runbooks of docs/operations.md that are about trust, as they are written there."""

import json
import os
import shutil
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.e2e.test_revocation import status_of, token_for
from tests.support.sandboxes import Sandbox, copy_database, wait_until


def audited(sandbox: Sandbox) -> list[str]:
    """The actions in the audit, read from the database itself."""
    path = sandbox.state / "control-plane" / "state" / "control-plane.db"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return [action for (action,) in database.execute("SELECT action FROM audit_events ORDER BY event_id")]


def test_a_compromised_node(fragile_sandbox: Sandbox) -> None:
    """Lock it, look at it, revoke and delete it; a machine that holds its keys gets nowhere with them."""
    sandbox = fragile_sandbox
    token = token_for(sandbox, "vm-2", "health:read")
    sandbox.trunkline("lock", "node", "vm-2", "--for", "2h", "--reason", "outbound traffic nobody knows")
    assert status_of(sandbox, token)[0] == 403
    [lock] = sandbox.json("lock", "list")["locks"]
    sandbox.trunkline("lock", "lift", lock["lock_id"])
    wait_until(lambda: status_of(sandbox, token)[0] == 200, "it was a false alarm, and nothing is lost")
    sandbox.trunkline("lock", "node", "vm-2", "--for", "2h", "--reason", "it was none")
    assert sandbox.json("node", "get", "vm-2")["node"] == "vm-2"
    sandbox.trunkline("command", "list")
    sandbox.trunkline("revoke", "node", "vm-2")
    assert status_of(sandbox, token)[0] == 401
    sandbox.trunkline("node", "delete", "vm-2", "--yes")
    agent_log = sandbox.state / "log" / "vm-2.log"
    wait_until(lambda: "401" in agent_log.read_text() or "revoked" in agent_log.read_text(), "its agent is refused")
    assert status_of(sandbox, token_for(sandbox, "vm-1", "health:read"))[0] == 200
    actions = audited(sandbox)
    looked_for = ("lock.create", "lock.lift", "node.revoke", "node.delete")
    found = [action for action in actions if action in looked_for]
    assert found == ["lock.create", "lock.lift", "lock.create", "node.revoke", "node.delete"]


def test_restoring_the_control_plane_from_a_backup(fragile_sandbox: Sandbox, tmp_path: Path) -> None:
    """What was revoked after the backup stays revoked, and new revocations count: relays give back what was lost."""
    sandbox = fragile_sandbox
    state = sandbox.state / "control-plane" / "state"
    copy_database(state / "control-plane.db", tmp_path / "backup.db")
    lost = token_for(sandbox, "vm-1", "health:read")
    for number in range(3):
        sandbox.trunkline("revoke", "token", f"further-{number}")
    sandbox.trunkline("revoke", "token", lost["token_id"])
    assert status_of(sandbox, lost)[0] == 401
    restore(sandbox, tmp_path / "backup.db")
    wait_until(lambda: "trust_document.take_back" in audited(sandbox), "the relay has handed its document over", 60)
    again = sandbox.trunkline("revoke", "token", lost["token_id"], "--no-wait")
    held = json.loads(sandbox.trunkline("revoke", "token", lost["token_id"], "-o", "json", "--no-wait").stdout)
    assert held["sequence"] > 0
    assert again.returncode == 0
    assert status_of(sandbox, lost)[0] == 401
    fresh = token_for(sandbox, "vm-1", "health:read")
    assert status_of(sandbox, fresh)[0] == 200
    revoked = sandbox.trunkline("revoke", "token", fresh["token_id"], "--timeout", "30", check=False)
    assert b"in force at 1 relay" in revoked.stdout
    assert status_of(sandbox, fresh)[0] == 401


def restore(sandbox: Sandbox, backup: Path) -> None:
    """Put the backup in the database's place, and start the control plane on it; it does nothing meanwhile."""
    old = sandbox.pid("control_plane")
    os.kill(old, signal.SIGSTOP)
    state = sandbox.state / "control-plane" / "state"
    restored = state / "restored.db"
    shutil.copyfile(backup, restored)
    restored.chmod(0o600)
    for suffix in ("-wal", "-shm"):
        (state / f"control-plane.db{suffix}").unlink(missing_ok=True)
    restored.rename(state / "control-plane.db")
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: sandbox.pid("control_plane") != old, "the control plane is started again")
