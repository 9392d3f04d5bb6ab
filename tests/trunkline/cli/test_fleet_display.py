"""What the live display shows of a submission, and that nothing from a node steers it."""

from __future__ import annotations

import io

from rich.console import Console

from trunkline.cli.fleet_display import AboveDisplay, display_lines
from trunkline.cli.remote_output import PrefixedOutput
from trunkline.client.records.commands import Command, CommandState
from trunkline.client.records.submissions import RolloutProgress, Submission, Wave
from trunkline.client.submissions import Standing


def standing(states: dict[str, CommandState], held: int, rollout: RolloutProgress | None) -> Standing:
    commands = [Command(command_id=f"c.{node}", node=node, state=state) for node, state in states.items()]
    commands += [Command(command_id=f"h.{n}", node=f"h-{n}", state=CommandState.QUEUED, held=True) for n in range(held)]
    counts: dict[str, int] = {}
    for command in commands:
        counts[command.state.value] = counts.get(command.state.value, 0) + 1
    return Standing(Submission(submission_id="s", state="RUNNING", counts=counts, rollout=rollout), commands)


def test_how_far_it_is() -> None:
    states = {"vm-1": CommandState.SUCCEEDED, "vm-2": CommandState.FAILED, "vm-3\x1b[2J": CommandState.RUNNING}
    rollout = RolloutProgress(wave=2, waves=(Wave(wave=1), Wave(wave=2)), next_wave_time=12_000)
    lines = display_lines(standing(states, 5, rollout), now=5.0)
    assert lines == [
        "████████░░░░░░░░░░░░░░░░░░░░░░ 2/8 · 1 succeeded · 1 failed · 5 held back",
        "wave 2 of 2 · the next in 7 s",
        "under way: vm-3 [2J",
    ]


def test_many_nodes_are_named_in_part() -> None:
    lines = display_lines(standing({f"vm-{n}": CommandState.RUNNING for n in range(9)}, 0, None), now=0.0)
    assert lines[1:] == ["under way: vm-0, vm-1, vm-2, vm-3, vm-4, vm-5 and 3 more"]


def test_output_above_the_display_is_shown_and_not_obeyed() -> None:
    file = io.StringIO()
    above = AboveDisplay(Console(file=file, force_terminal=True, width=20))
    output = PrefixedOutput(above, b"vm-1 | ", neutralise=above.isatty())
    output.write(b"a \x1b[31m[bold]red[/bold] long line\nsecond\nhalf")
    output.close()
    assert file.getvalue() == "vm-1 | a ^[[31m[bold]red[/bold] long line\nvm-1 | second\nvm-1 | half\n"
