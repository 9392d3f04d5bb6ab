"""The runbook *restore from a backup* of docs/operations.md, by hand, after a revocation and a key that was revoked."""

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.sandboxes import TRUNKLINE, copy_database, wait_until
from tests.support.small_fleet import SmallFleet

pytestmark = pytest.mark.timeout(180)

KEYS = ("authority", "signers", "token-key.pem", "secret-keys.json")
DOCUMENT = "trust-document.jws"


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[SmallFleet]:
    running = SmallFleet(tmp_path)
    try:
        running.begin()
        running.join("vm-1")
        yield running
    finally:
        running.end()


def back_up(state: Path, backup: Path) -> None:
    """Copy the keys, and then the database, while the control plane runs."""
    backup.mkdir()
    for name in KEYS:
        source = state / name
        if source.is_dir():
            shutil.copytree(source, backup / name)
        elif source.exists():
            shutil.copy2(source, backup / name)
    copy_database(state / "control-plane.db", backup / "control-plane.db")
    (backup / "control-plane.db").chmod(0o600)


def restore(state: Path, backup: Path) -> None:
    for suffix in ("-wal", "-shm"):
        (state / f"control-plane.db{suffix}").unlink(missing_ok=True)
    shutil.copytree(backup, state, dirs_exist_ok=True)


def held_by_the_relay(fleet: SmallFleet) -> dict[str, Any]:
    payload = (fleet.state("relay") / DOCUMENT).read_text().split(".")[1]
    document: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return document


def active_key(fleet: SmallFleet) -> str:
    seen = json.loads(fleet.trunkline("signing-key", "status", "-o", "json"))
    [key] = [signer["signer_id"] for signer in seen["signers"] if signer["active"]]
    return str(key)


def test_restoring_by_hand_ends_what_had_ended_since(fleet: SmallFleet) -> None:
    state, backup = fleet.state("control-plane"), fleet.root / "backup"
    back_up(state, backup)
    fleet.join("vm-2")
    unknown = fleet.identity("vm-2").node_id
    token = json.loads(fleet.trunkline("token", "call", "vm-1", "--scope", "health:read", "-o", "json"))
    fleet.trunkline("revoke", "token", token["token_id"])
    stolen = active_key(fleet)
    fleet.trunkline("signing-key", "revoke", stolen, "--reason", "it was on a laptop")
    wait_until(lambda: stolen not in str(held_by_the_relay(fleet)["token_keys"]), "the relay has heard of it")
    before = held_by_the_relay(fleet)["sequence"]

    fleet.stop("control-plane")
    restore(state, backup)
    shutil.copy2(fleet.state("relay") / DOCUMENT, fleet.root / DOCUMENT)
    config = fleet.root / "control-plane.toml"
    said = fleet.run(TRUNKLINE, "control-plane", "take-back", DOCUMENT, "--config", str(config))
    assert "taken back: 1 revocations, 0 locks, 1 ended signers" in said
    fleet.start("control-plane")

    wait_until(lambda: held_by_the_relay(fleet)["sequence"] > before, "the relay has the next document")
    fleet.trunkline("revoke", "token", "none")
    fleet.trunkline("revoke", "node", unknown)
    wait_until(lambda: unknown in held_by_the_relay(fleet)["revocations"]["nodes"], "the node is ended by its id")
    fleet.trunkline("lock", "list")
    assert json.loads(fleet.trunkline("ca", "status", "-o", "json"))["phase"] == "steady"
    assert active_key(fleet) != stolen
    document = held_by_the_relay(fleet)
    assert token["token_id"] in document["revocations"]["token_ids"]
    assert stolen not in str(document["token_keys"])
    wait_until(lambda: fleet.works("vm-1"), "the node works")
    for name in ("control-plane", "relay", "vm-1"):
        assert "Traceback" not in fleet.log(name)
