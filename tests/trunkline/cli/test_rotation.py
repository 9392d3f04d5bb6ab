"""`trunkline ca` and `trunkline signing-key`: what is printed, and how a gate that is shut ends."""

import json
import os

import pytest

from tests.trunkline.cli.conftest import Trunkline
from trunkline.cli.rotation_progress import JsonView, LineView, display_lines, progress_view
from trunkline.cli.rotation_status import rotation_lines
from trunkline.client.records.rotations import Rotation

LAGGARDS = [
    {"kind": "node", "id": f"nd-{n}", "name": f"vm-{n}\x1b[31m", "problem": "has 6, needs 7"} for n in range(30)
]


def rotation(phase: str = "prepared", step: str = "activate", **verdict: object) -> Rotation:
    signers = [
        {"signer_id": "a" * 64, "active": True, "creation_time": 0, "expire_time": 1},
        {"signer_id": "b" * 64, "creation_time": 0, "expire_time": 1},
    ]
    steps = [{"step": step, "open": False, "adopted": 10, "behind": 30, "laggards": LAGGARDS} | verdict]
    return Rotation.model_validate(
        {"kind": "ca", "phase": phase, "version": 2, "live": 40, "signers": signers, "next_steps": steps}
    )


def test_laggards_are_named_up_to_a_bound_and_cannot_steer_the_terminal():
    lines = rotation_lines(rotation())
    assert "next: activate (not yet: 10 of 40 have followed)" in lines[3]
    assert len(lines) == 4 + 20 + 1
    assert lines[-1].strip() == "and 10 more"
    assert all(line.isprintable() for line in lines)


def test_the_live_display_has_a_bar():
    lines = display_lines(rotation())
    assert lines[0] == "ca: prepared"
    assert lines[3].count("█") == 8
    assert lines[3].count("░") == 22
    assert not [line for line in display_lines(rotation("steady", "prepare")) if "█" in line or "░" in line]


def test_a_line_for_each_change(capsys: pytest.CaptureFixture[str]):
    for view, count in ((LineView(), 3), (JsonView(), 3)):
        for seen in (rotation(), rotation(), rotation(behind=0, open=True, laggards=[]), rotation("steady", "prepare")):
            view.show(seen)
        assert len(capsys.readouterr().out.splitlines()) == count


def test_the_view_fits_where_the_output_goes(capsys: pytest.CaptureFixture[str]):
    with progress_view("json") as view:
        view.show(rotation())
    assert json.loads(capsys.readouterr().out)["phase"] == "prepared"
    with progress_view("table") as view:
        view.show(rotation())
    assert capsys.readouterr().out.startswith("ca: prepared; next: activate")


@pytest.mark.parametrize("group", ["ca", "signing-key"])
@pytest.mark.parametrize(
    "arguments", [["rotate"], ["activate", "--force"], ["prepare", "--force", "--reason", " "], ["explode"]]
)
def test_wrong_usage(trunkline: Trunkline, group: str, arguments: list[str]):
    assert trunkline(group, *arguments).status == os.EX_USAGE


def test_revoking_needs_a_reason(trunkline: Trunkline):
    assert trunkline("signing-key", "revoke", "kid").status == os.EX_USAGE
    assert trunkline("ca", "revoke", "kid").status == os.EX_USAGE
