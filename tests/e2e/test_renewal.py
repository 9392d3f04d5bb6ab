"""Renewal among real processes that are killed and stopped in the middle of it, and the runbook of an expired fleet."""

import time
import urllib.request
from collections.abc import Iterator
from functools import partial

import pytest

from certs.identities import Identity
from tests.support.sandboxes import wait_until
from tests.support.small_fleet import LIFE_SECONDS, RELAY_LIFE_SECONDS, SmallFleet
from trunkline.runtime.daemon import EXIT_NO_PERMISSION

pytestmark = pytest.mark.timeout(600)

RETRIED_SECONDS = 300.0
"""How long a relay pauses at most before it asks again for what it was refused while the control plane was stopped."""
SUCCESSOR, REQUEST = "identity-successor.json", "renewal.json"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallFleet]:
    """A control plane, a relay, and a node `vm-1` that run; `relay-2`, `vm-2` and `vm-3`, which are switched off."""
    running = SmallFleet(tmp_path_factory.mktemp("fleet"))
    try:
        running.begin()
        running.enrol("relay-2")
        running.kill("relay-2")
        for node in ("vm-2", "vm-3"):
            running.join(node)
            wait_until(partial(running.works, node), f"{node} works")
            running.kill(node)
        # Last, so that nearly all of its certificate's life is left for what is done to it.
        running.join("vm-1")
        wait_until(lambda: running.works("vm-1"), "vm-1 works")
        yield running
    finally:
        running.end()


def metrics(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - our own
        return str(answer.read().decode())


def killed_and_started(fleet: SmallFleet, name: str) -> None:
    fleet.kill(name)
    fleet.start(name)


def test_an_agent_that_is_killed_in_any_state_of_a_renewal_comes_back(fleet: SmallFleet) -> None:
    """One renewal, held in each of its states by whoever does not answer, and the agent killed in each."""
    first = fleet.identity("vm-1")

    # The request is on the disk, and the control plane does not answer; it is killed too.
    fleet.pause("control-plane")
    wait_until(lambda: fleet.has_file("vm-1", REQUEST), "a renewal is due", LIFE_SECONDS)
    asked = (fleet.state("vm-1") / REQUEST).read_bytes()
    killed_and_started(fleet, "vm-1")
    assert fleet.identity("vm-1").identity.serial == first.identity.serial
    fleet.pause("relay")
    fleet.kill("control-plane")
    fleet.start("control-plane")

    # The successor is in the second slot, and no relay is there to prove it at.
    wait_until(lambda: fleet.has_file("vm-1", SUCCESSOR), "the successor is there", LIFE_SECONDS)
    assert (fleet.state("vm-1") / REQUEST).read_bytes() == asked
    loaded = fleet.log("vm-1").count("identity.loaded")
    fleet.kill("vm-1")
    fleet.start("vm-1", until_ready=False)
    wait_until(lambda: fleet.log("vm-1").count("identity.loaded") > loaded, "the agent goes on with the old identity")
    assert fleet.identity("vm-1").identity.serial == first.identity.serial
    assert fleet.has_file("vm-1", SUCCESSOR)

    # The successor is in force, and the control plane does not hear of it.
    fleet.pause("control-plane")
    fleet.go_on("relay")
    wait_until(lambda: fleet.identity("vm-1").identity.serial != first.identity.serial, "the successor is in force")
    second = fleet.identity("vm-1")
    assert not second.confirmed
    assert second.former_sealing_keys[0].reveal() == first.sealing_key.reveal()
    killed_and_started(fleet, "vm-1")
    fleet.go_on("control-plane")
    wait_until(lambda: fleet.identity("vm-1").confirmed, "the control plane has confirmed it")
    wait_until(lambda: fleet.works("vm-1"), "the node works")
    assert fleet.identity("vm-1").spiffe_id == first.spiffe_id
    assert not fleet.has_file("vm-1", SUCCESSOR)
    assert not fleet.has_file("vm-1", REQUEST)


def test_the_runbook_of_an_expired_fleet(fleet: SmallFleet) -> None:
    """A node that was off until its certificate had expired: it is switched on, and nothing else is done."""
    before = fleet.identity("vm-2")
    wait_until(lambda: time.time() > before.identity.not_after + 1, "the certificate has expired", 2 * LIFE_SECONDS)
    fleet.start("vm-2")
    wait_until(lambda: fleet.works("vm-2"), "the node is back")
    after = fleet.identity("vm-2")
    assert after.node_id == before.node_id
    [event] = fleet.audit("node.late_renewal")
    assert event["details"]["by_certificate"] == before.identity.serial
    assert "identity.expired" in fleet.log("vm-2")


def test_a_node_that_was_revoked_while_it_was_off_stays_out(fleet: SmallFleet) -> None:
    node = fleet.identity("vm-3")
    fleet.api("POST", "/api/2.0/revocations", {"kind": "certificate", "id": node.identity.serial})
    wait_until(lambda: time.time() > node.identity.not_after + 1, "the certificate has expired", 2 * LIFE_SECONDS)
    fleet.start("vm-3", until_ready=False)
    assert fleet.processes.pop("vm-3").wait(timeout=60) == EXIT_NO_PERMISSION
    assert "late_renewal.refused" in fleet.log("vm-3")


def test_a_relay_that_was_off_until_its_certificate_had_expired_returns_by_itself(fleet: SmallFleet) -> None:
    """By its key, unattended; and the node that runs links itself to it."""
    before = Identity.load(fleet.state("relay-2") / "identity.pem")
    wait_until(lambda: time.time() > before.not_after + 1, "the certificate has expired", RELAY_LIFE_SECONDS)
    fleet.start("relay-2")
    after = Identity.load(fleet.state("relay-2") / "identity.pem")
    assert after.spiffe_id == before.spiffe_id
    assert after.not_after > time.time()
    assert "relay.identity_back" in fleet.log("relay-2")
    [event] = fleet.audit("relay.late_renewal")
    assert event["details"]["by_certificate"] == before.serial
    url = fleet.endpoints("vm-1")["admin_url"] + "/metrics"
    wait_until(lambda: "trunkline_node_agent_links 2.0" in metrics(url), "vm-1 is linked to both relays", 60)
    wait_until(lambda: fleet.works("vm-1"), "vm-1 works")


def test_relay_and_control_plane_have_renewed_themselves_meanwhile_and_nothing_crashed(fleet: SmallFleet) -> None:
    """Their certificates live for a minute or two too; the link of `vm-1` was made before and after.

    The node was told when to renew, in the window of its certificate.
    """
    node = fleet.identity("vm-1")
    assert node.renew_at is not None
    assert node.lifespan.at(0.4) <= node.renew_at <= node.lifespan.at(0.7)
    place = fleet.state("relay") / "identity.pem"
    wait_until(lambda: Identity.load(place).not_after > time.time(), "the relay has renewed itself", RETRIED_SECONDS)
    wait_until(lambda: "certificate.renewed" in fleet.log("relay"), "it says so")
    wait_until(lambda: "identity.renewed" in fleet.log("control-plane"), "the control plane too", RETRIED_SECONDS)
    wait_until(lambda: fleet.works("vm-1"), "vm-1 works")
    for name in ("control-plane", "relay", "relay-2", "vm-1", "vm-2", "vm-3"):
        assert "Traceback" not in fleet.log(name)
