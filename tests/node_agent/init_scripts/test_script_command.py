"""A script as a command: who runs it, and that it gets there whole without being in any argument."""

import pytest

from node_agent.commands.records import OutputStream
from node_agent.commands.submitter import Submitter
from node_agent.init_scripts.plan import PlannedScript
from node_agent.init_scripts.script_command import OWN_COMMAND_ID, command_id_of, interpreter_of, submission_of
from node_agent.policy import InitRules
from tests.node_agent.init_scripts.conftest import entry


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (b"true\n", ["/bin/bash"]),
        (b"", ["/bin/bash"]),
        (b"#!/bin/sh\ntrue", ["/bin/sh"]),
        (b"#! /bin/bash -eux \ntrue", ["/bin/bash", "-eux"]),
        (b"#!/usr/bin/env python3", ["/usr/bin/env", "python3"]),
        (b"#!/usr/bin/env -S bash -e\n", ["/usr/bin/env", "-S bash -e"]),
        (b"#!\n", ["/bin/bash"]),
        (b"#!bash\n", ["/bin/bash"]),
        (b"#!/" + b"x" * 400 + b"\n", ["/bin/bash"]),
        (b"\xff\xfe#!/bin/sh\n", ["/bin/bash"]),
    ],
)
def test_who_runs_it(script: bytes, words: list[str]):
    assert interpreter_of(script) == words


def test_the_ids_of_scripts_are_told_from_all_others():
    assert OWN_COMMAND_ID.fullmatch(command_id_of(12, "is-" + "a" * 20, "nd-" + "b" * 20))
    for other in ("init-db", "init-1", "init-1-is-short.nd-x", "cmd-init-1-is-" + "a" * 20 + ".nd"):
        assert not OWN_COMMAND_ID.fullmatch(other)


async def run(ledger, until, script: bytes, **environment: str):
    submission = submission_of(PlannedScript.model_validate(entry("a", script)), environment, InitRules())
    command, _ = await ledger.submit("c-1", submission, Submitter("me", initialises=True))
    await until(lambda: command.spooled)
    output = {}
    for stream in OutputStream:
        spool = command.spool(stream, ledger.store)
        with spool.reader() as reader:
            output[stream.value] = b"".join([chunk async for chunk in reader.chunks(0, follow=False)])
    return command, output


async def test_it_arrives_whole_reads_nothing_and_leaves_nothing(ledger, until, tmp_path):
    script = (
        b"cat; echo read\n"
        b"ls -A $TMPDIR | wc -l; ls -l /proc/$$/fd/ | grep -c trunkline-init.*deleted\n"
        + b"# "
        + b"x" * 60_000
        + b"\necho '$HOME' \"`echo quoted`\"\nexit 5\n"
    )
    tmp_path.chmod(0o777)
    command, output = await run(ledger, until, script, TMPDIR=str(tmp_path))
    words = output["stdout"].decode().split()
    assert words[0] == "read"
    assert words[-2:] == ["$HOME", "quoted"]
    assert (command.record.exit_code, output["stderr"]) == (5, b"")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("trunkline-init")] == []
    assert not any("quoted" in argument for argument in command.record.argv)


async def test_another_interpreter(ledger, until):
    script = b"#!/usr/bin/env python3\nimport sys\nprint(repr(sys.stdin.read()), 6 * 7)\n"
    command, output = await run(ledger, until, script)
    assert (output["stdout"], command.record.exit_code) == (b"'' 42\n", 0)


async def test_a_signal_is_the_scripts_own(ledger, until):
    command, _ = await run(ledger, until, b"kill -KILL $$\n")
    assert command.record.signal == 9


async def test_an_interpreter_that_is_not_there(ledger, until):
    command, output = await run(ledger, until, b"#!/no/such/thing\n")
    assert command.record.exit_code == 127
    assert b"/no/such/thing" in output["stderr"]


async def test_no_place_for_the_script(ledger, until, tmp_path):
    command, output = await run(ledger, until, b"true\n", TMPDIR=str(tmp_path / "none"))
    assert command.record.exit_code != 0
    assert b"trunkline-init" in output["stderr"]
