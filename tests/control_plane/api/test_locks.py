"""Locks: made, listed, lifted and expired, in the trust document as long as they are in force, and audited."""

from pathlib import Path

import pytest

from certs.trust import TrustDocument, verify_trust_document
from tests.control_plane.test_housekeeping import OffsetClock
from tests.support.control_planes import RunningControlPlane, running_control_plane

PATH = "/api/2.0/locks"
NODE = "nd-" + "a" * 20


def wanted(**changes: object) -> dict[str, object]:
    return {"kind": "node", "id": NODE, "lifetime_seconds": 7200, "reason": "it looks odd", **changes}


def published(plane: RunningControlPlane) -> TrustDocument:
    trust = plane.control_plane.identities.trust
    return verify_trust_document(trust.text, plane.authority.roots, plane.foundation.clock.now())


async def test_a_lock_is_published_before_it_is_acknowledged_without_its_reason(plane: RunningControlPlane):
    before = plane.control_plane.identities.trust.sequence
    answer = await plane.call("POST", PATH, wanted())
    assert answer.status == 201
    made = answer.document
    assert (made["state"], made["sequence"]) == ("IN_FORCE", before + 1)
    assert made["expire_time"] - made["creation_time"] == 7_200_000
    document = published(plane)
    assert document.sequence == made["sequence"]
    [lock] = document.locks
    assert (lock.kind, lock.id, lock.reason) == ("node", NODE, "")
    assert lock.expires_at * 1000 >= made["expire_time"]
    assert "odd" not in plane.control_plane.identities.trust.text


async def test_sent_twice_it_is_one_lock(plane: RunningControlPlane):
    first = await plane.call("POST", PATH, wanted())
    second = await plane.call("POST", PATH, wanted())
    assert (first.status, second.status) == (201, 200)
    assert second.document["lock_id"] == first.document["lock_id"]
    assert (await plane.call("POST", PATH, wanted(reason="another"))).status == 201
    assert len((await plane.ok("GET", PATH))["locks"]) == 2


async def test_what_differs_or_is_no_longer_in_force_is_locked_anew(tmp_path: Path):
    """A repetition is answered with the lock that there is; anything else has to have one."""
    clock, other = OffsetClock(), "nd-" + "b" * 20
    async with running_control_plane(tmp_path, clock=clock) as plane:
        first = await plane.ok("POST", PATH, wanted())
        for changes in ({"id": other}, {"lifetime_seconds": 60}):
            assert (await plane.call("POST", PATH, wanted(**changes))).status == 201
        await plane.ok("DELETE", f"{PATH}/{first['lock_id']}")
        assert {lock.id for lock in published(plane).locks} == {NODE, other}, "another lock on it is in force"
        assert (await plane.call("POST", PATH, wanted())).status == 201, "the one before was lifted"
        clock.offset = 61
        assert (await plane.call("POST", PATH, wanted(lifetime_seconds=60))).status == 201, "the one before has expired"
        clock.offset = 601
        assert (await plane.call("POST", PATH, wanted())).status == 201, "it lasts for longer than the one before"
        ends = [lock["expire_time"] for lock in (await plane.ok("GET", PATH))["locks"] if lock["id"] == NODE]
        assert max(ends) >= first["expire_time"] + 600_000


async def test_lifting_takes_it_out_of_the_document_and_is_the_same_when_repeated(plane: RunningControlPlane):
    made = await plane.ok("POST", PATH, wanted())
    other = await plane.ok("POST", PATH, wanted(kind="workspace", id="ws-" + "a" * 20))
    lifted = await plane.ok("DELETE", f"{PATH}/{made['lock_id']}")
    assert (lifted["state"], lifted["lift_sequence"]) == ("LIFTED", other["sequence"] + 1)
    assert [lock.kind for lock in published(plane).locks] == ["workspace"]
    assert await plane.ok("DELETE", f"{PATH}/{made['lock_id']}") == lifted
    assert [lock["lock_id"] for lock in (await plane.ok("GET", PATH))["locks"]] == [other["lock_id"]]
    assert len((await plane.ok("GET", f"{PATH}?ended=true"))["locks"]) == 2
    assert [event["resource"] for event in await plane.audit(action="lock.create")] == [
        other["lock_id"],
        made["lock_id"],
    ]
    [event] = await plane.audit(action="lock.lift")
    assert (event["resource"], event["details"]["id"]) == (made["lock_id"], NODE)


async def test_an_expired_lock_leaves_the_document_and_its_end_is_audited_once(tmp_path: Path):
    clock = OffsetClock()
    async with running_control_plane(tmp_path, clock=clock) as plane:
        made = await plane.ok("POST", PATH, wanted(lifetime_seconds=60))
        clock.offset = 61
        assert (await plane.ok("GET", PATH))["locks"] == []
        await plane.control_plane.housekeeping.clean()
        await plane.control_plane.housekeeping.clean()
        assert published(plane).locks == ()
        assert published(plane).sequence == made["sequence"] + 1
        [event] = await plane.audit(action="lock.expire")
        assert event["resource"] == made["lock_id"]
        assert (await plane.ok("GET", f"{PATH}/{made['lock_id']}"))["state"] == "EXPIRED"
        lifted = await plane.ok("DELETE", f"{PATH}/{made['lock_id']}")
        assert "lift_time" not in lifted
        clock.offset = 60 + 31 * 86_400
        await plane.control_plane.housekeeping.clean()
        assert (await plane.call("GET", f"{PATH}/{made['lock_id']}")).status == 404


async def test_a_lock_that_a_wrong_clock_has_ended_is_in_force_again_once_the_clock_is_right(tmp_path: Path):
    clock = OffsetClock()
    async with running_control_plane(tmp_path, clock=clock) as plane:
        made = await plane.ok("POST", PATH, wanted(lifetime_seconds=1800))
        clock.offset = 2400
        await plane.control_plane.housekeeping.clean()
        clock.offset = 0
        await plane.control_plane.housekeeping.clean()
        assert [lock.id for lock in published(plane).locks] == [NODE]
        assert [lock["lock_id"] for lock in (await plane.ok("GET", PATH))["locks"]] == [made["lock_id"]]
        clock.offset = 1801
        await plane.control_plane.housekeeping.clean()
        assert published(plane).locks == ()
        assert len(await plane.audit(action="lock.expire")) == 2, "each end has its event"
        clock.offset = 0
        lifted = await plane.ok("DELETE", f"{PATH}/{made['lock_id']}")
        assert lifted["state"] == "LIFTED"
        assert published(plane).locks == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "relay"},
        {"id": "vm-1"},
        {"lifetime_seconds": 0},
        {"lifetime_seconds": 400 * 86_400},
        {"reason": ""},
        {"colour": "red"},
        {"kind": "certificate", "id": "not hexadecimal"},
    ],
)
async def test_what_is_no_lock(plane: RunningControlPlane, changes: dict[str, object]):
    assert (await plane.call("POST", PATH, wanted(**changes))).status == 400
    assert (await plane.ok("GET", PATH))["locks"] == []


async def test_locks_are_bounded(plane: RunningControlPlane, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("control_plane.storage.locks.MOST_LOCKS", 1)
    await plane.ok("POST", PATH, wanted())
    answer = await plane.call("POST", PATH, wanted(reason="another"))
    assert (answer.status, answer.error_code) == (400, "RESOURCE_LIMIT_EXCEEDED")


@pytest.mark.parametrize("kind", ["node", "workspace", "certificate"])
async def test_a_locked_node_may_renew_and_report_and_nothing_else(plane: RunningControlPlane, kind: str):
    node = await plane.node("vm-1")
    name = {"node": node.node_id, "workspace": node.workspace_id, "certificate": node.identity.chain.serial}[kind]
    made = await plane.ok("POST", PATH, wanted(kind=kind, id=name))
    for route in plane.control_plane.routes:
        if route.role.value != "node":
            continue
        answer = await plane.call(route.method, route.path, {}, identity=node.identity)
        refused = (answer.status, answer.document.get("message")) == (403, f"this {kind} is locked")
        # A locked certificate could be renewed into one that is not.
        assert refused is (kind == "certificate" or not route.while_locked), route
    await plane.ok("DELETE", f"{PATH}/{made['lock_id']}")
    await plane.ok("POST", "/api/2.0/nodes/self/listen-token", {}, identity=node.identity)
