"""Gates: who keeps a step shut, and in which words."""

from dataclasses import replace

import pytest

from control_plane.rotation.adoption import Standing
from control_plane.rotation.gates import judge
from control_plane.signing.phases import Gate
from control_plane.signing.seats import Seats
from control_plane.storage.records.signers import Rotation, Signer

NOW = 1000.0
OLD, NEW = "a" * 64, "b" * 64


def seats(kind: str = "ca", phase: str = "activated") -> Seats:
    rotation = Rotation(kind=kind, version=3, phase=phase, gate_sequence=7, step_time=int(NOW * 1000) - 60_000)
    old, new = (Signer(signer_id=name, kind=kind) for name in (OLD, NEW))
    return Seats(rotation, old, new)


def node(sequence: int = 7, root: str | None = NEW, key: str | None = NEW, kind: str = "node") -> Standing:
    return Standing(kind, sequence, root, key)


def problem(gate: Gate, of: Seats, standing: Standing) -> str | None:
    verdict = judge(gate, of, [standing], tokens_until=None, now=NOW)
    assert verdict.adopted == 1 - len(verdict.laggards)
    return verdict.laggards[0].problem if verdict.laggards else None


@pytest.mark.parametrize(
    ("gate", "kind", "standing", "words"),
    [
        (Gate.OPEN, "ca", node(0, None, None), None),
        (Gate.TRUSTED, "ca", node(7, OLD), None),
        (Gate.TRUSTED, "ca", node(8, OLD), None),
        (Gate.TRUSTED, "ca", node(6, NEW), "has trust document 6, needs 7"),
        (Gate.TRUSTED, "ca", node(0), "has not reported yet"),
        (Gate.LEFT, "ca", node(7, NEW), None),
        (Gate.LEFT, "ca", node(7, OLD), "still has a certificate under the root aaaa"),
        (Gate.LEFT, "ca", node(6, NEW), "has trust document 6"),
        (Gate.LEFT, "ca", node(7, None), "does not say which certificate it has"),
        (Gate.LEFT, "ca", node(7, None, kind="relay"), "does not say which certificate it has"),
        (Gate.LEFT, "signing-key", node(7, OLD, NEW), None),
        (Gate.LEFT, "signing-key", node(7, NEW, OLD), "still has a listen token of the key aaaa"),
        (Gate.LEFT, "signing-key", node(7, NEW, None), "does not say which listen token it has"),
        (Gate.LEFT, "signing-key", node(7, OLD, None, kind="relay"), None),
        (Gate.LEFT, "signing-key", node(7, OLD, None, kind="control_plane"), None),
    ],
)
def test_what_is_wrong_with_a_machine(gate: Gate, kind: str, standing: Standing, words: str | None):
    found = problem(gate, seats(kind), standing)
    assert (found is None) == (words is None)
    assert words is None or words in (found or "")


def test_machines_that_hold_the_same_count_as_many_as_they_are():
    some = [replace(node(7), number=5), replace(node(6), number=90_000), replace(node(5), number=3)]
    verdict = judge(Gate.TRUSTED, seats(), some, tokens_until=None, now=NOW)
    assert (verdict.adopted, verdict.behind, verdict.open) == (5, 90_003, False)
    assert judge(Gate.OPEN, seats(), some, tokens_until=None, now=NOW).adopted == 90_008


def test_after_a_rollback_it_is_the_candidate_that_is_to_be_left():
    assert problem(Gate.LEFT, seats(phase="rolled_back"), node(7, NEW)) is not None
    assert problem(Gate.LEFT, seats(phase="rolled_back"), node(7, OLD)) is None


def test_tokens_that_are_out_keep_a_key():
    until = int(NOW * 1000) + 5
    verdict = judge(Gate.LEFT, seats("signing-key"), [node()], tokens_until=until, now=NOW)
    assert (verdict.tokens_until, verdict.open) == (until, False)
    assert judge(Gate.TRUSTED, seats("signing-key"), [node()], tokens_until=until, now=NOW).open
    assert judge(Gate.LEFT, seats(), [node()], tokens_until=until, now=NOW).open
