"""What somebody puts into a command to make it another: all of it arrives literally, or is refused; nothing else runs.

The payloads go through a relay to a real agent. Many share a command where each is an argument or a variable of its
own; those that must be refused are refused one by one.
"""

import asyncio
import json
import os
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.sandboxes import Sandbox, running_sandbox
from trunkline.client.commands import CommandRequest
from trunkline.client.control_plane import ControlPlane
from trunkline.client.errors import ApiError
from trunkline.client.node import Node
from trunkline.client.records.commands import Command, CommandState

MOST_PARAMETERS = 32

POLICY = """
[commands]
run_as = "{user}"
max_concurrent = 16
block_metadata = "off"

[commands.named.literal]
argv = ["printf", "%s\\\\n", {places}]
{literal}

[commands.named.strict]
argv = ["printf", "%s", "--word={{word}}", "{{number}}", "{{truth}}", "{{colour}}", "{{path}}"]
parameters.word = {{ type = "string", pattern = "[a-z]+", default = "x" }}
parameters.number = {{ type = "integer", min = 1, max = 9, default = 1 }}
parameters.truth = {{ type = "boolean", default = true }}
parameters.colour = {{ type = "string", enum = ["red", "green"], default = "red" }}
parameters.path = {{ type = "path", under = ["{directory}"], default = "{directory}/good" }}
"""


def payloads(canary: str) -> list[str]:
    """Texts that run something, or are something else, for whoever reads them with more than an eye."""
    run = f"touch {canary}"
    return [
        f"; {run}", f"&& {run}", f"|| {run}", f"| {run}", f"& {run} &", f"$({run})", f"`{run}`", f"\n{run}\n",
        f"\r\n{run}", f"'; {run}; '", f'"; {run}; "', f"'\"; {run} #", f"\\'; {run}", f"<({run})", f">({run})",
        f"> {canary}", f">> {canary}", f"2>{canary}", f"{{{run}}}", f"{{ {run}; }}", f"({run})", f"$'\\x24({run})'",
        f"${{x:=$({run})}}", f"$(({run}))", f"${{IFS}}touch${{IFS}}{canary}", f"eval {run}", f"exec {run}",
        f"sh -c '{run}'", f"sh\t-c\t{run}", f"!{run}", f"#!{run}", f"\x1b]0;{run}\x07", f"\x1b[201~{run}\n",
        f"{run}\x08\x08", f"%s%n%x {run}", f"%0a{run}", f"%00{run}", f"\\n{run}", f"\\0{run}", f"{{{{7*7}}}}{run}",
        f"#{{{run}}}", f"<%= `{run}` %>", f"${{jndi:ldap://{canary}}}", f"__import__('os').system('{run}')",
        f"{{word}}{run}", "{0}", "{a0}", "{{a0}}", "%(a0)s", "$a0", "${PATH}", "$HOME", "~", "~root", "*", "/*", "?",
        "[a-z]*", "{a,b}", "!!", "-", "--", "-c", "--help", "-n", "--version", f"--output={canary}", f"-o{canary}",
        "-rf /", "--checkpoint-action=exec=sh", "-oProxyCommand=sh", f"@{canary}", f"file://{canary}", "", " ", "\t",
        "\n", "a b", " a", "a ", "\\", "'", '"', "`", "$", "\u2028", "\u202e", "\ufeff", "\u00e9", "e\u0301",
        "\U0001f4a9", "\x7f", "\x01\x02\x03", "\u0085", "\uff1b touch", "\u037e", "..", "../..", "/dev/null", "|",
        "||", "&", ";", ";;", "\r", "A" * 4096,
    ]  # fmt: skip


@dataclass
class Stage:
    """An agent behind a relay, and a file that nothing may make."""

    node: Node
    canary: Path

    async def run(self, **fields: Any) -> tuple[Command, bytes]:
        """Run a command to its end; returns it and what it wrote."""
        command_id = f"inject-{uuid.uuid4()}"
        await self.node.submit(CommandRequest(command_id=command_id, **fields))
        written = b"".join([piece async for piece in self.node.output(command_id, follow=True)])
        command = await self.node.command(command_id)
        async with asyncio.timeout(20):
            while not command.state.final:
                await asyncio.sleep(0.01)
                command = await self.node.command(command_id)
        return command, written

    async def refused(self, statuses: tuple[int, ...] = (400, 403), **fields: Any) -> ApiError:
        """Submit what must be refused before anything is made of it."""
        with pytest.raises(ApiError) as refused:
            await self.node.submit(CommandRequest(**fields))
        assert refused.value.status in statuses, (refused.value, fields)
        return refused.value

    async def put(self, document: Mapping[str, Any]) -> int:
        """Send a document as it is; returns the answer's status."""
        body = json.dumps(document).encode()
        answer = await self.node.request(
            "PUT", f"/v1/commands/inject-{uuid.uuid4()}", scopes=("command:submit",), body=body,
            fields=(("Content-Type", "application/json"),),
        )  # fmt: skip
        await answer.read()
        return answer.status


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    """Where commands may write, whoever runs them."""
    with tempfile.TemporaryDirectory(prefix="trunkline-injection-") as name:
        Path(name).chmod(0o777)
        yield Path(name).resolve()


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory, directory: Path) -> Iterator[Sandbox]:
    state = tmp_path_factory.mktemp("injection") / "state"
    policy = state / "nodes" / "vm-1" / "policy.toml"
    policy.parent.mkdir(parents=True, mode=0o700)
    places = ", ".join(f'"{{a{number}}}"' for number in range(MOST_PARAMETERS))
    anything = 'type = "string", pattern = "(?s).*", max_length = 4096, allow_leading_dash = true, default = ""'
    literal = "\n".join(f"parameters.a{number} = {{ {anything} }}" for number in range(MOST_PARAMETERS))
    user = "nobody" if os.geteuid() == 0 else os.environ.get("USER", "nobody")
    policy.write_text(POLICY.format(user=user, places=places, literal=literal, directory=directory))
    policy.chmod(0o600)
    with running_sandbox(state, nodes=1) as running:
        yield running


def client(sandbox: Sandbox) -> ControlPlane:
    description = sandbox.description
    token = Path(description["admin_token_file"]).read_text().strip()
    return ControlPlane(description["control_plane_url"], token, ca_file=description["ca_file"])


@asynccontextmanager
async def staged(sandbox: Sandbox, directory: Path) -> AsyncIterator[Stage]:
    canary = directory / "canary"
    async with client(sandbox) as control_plane:
        stage = Stage(control_plane.node("main", "vm-1"), canary)
        yield stage
    assert not canary.exists(), "something was run"


def on_stage(sandbox: Sandbox, directory: Path, work: Callable[[Stage], Awaitable[None]]) -> None:
    async def run() -> None:
        async with staged(sandbox, directory) as stage:
            await work(stage)

    asyncio.run(run())


def test_arguments_and_variables_are_what_was_sent(sandbox: Sandbox, directory: Path) -> None:
    """Every payload twice: as an argument of its own, and as the content of a variable."""

    async def work(stage: Stage) -> None:
        texts = payloads(str(stage.canary))
        assert len(texts) > 100
        command, written = await stage.run(argv=["printf", "%s\\0", *texts])
        assert command.state is CommandState.SUCCEEDED
        assert written.decode().split("\0")[:-1] == texts
        variables = {f"P{number}": text for number, text in enumerate(texts)}
        _, written = await stage.run(argv=["env", "-0"], environment=variables)
        found = dict(line.split("=", 1) for line in written.decode().split("\0")[:-1])
        assert {name: found[name] for name in variables} == variables

    on_stage(sandbox, directory, work)


def test_variables_with_names_that_mean_something_are_only_the_programs(sandbox: Sandbox, directory: Path) -> None:
    """What variables can do, they do to the program that was asked for, as its user; the agent is not moved by them."""

    async def work(stage: Stage) -> None:
        run = f"touch {stage.canary}"
        names = [
            "A B",
            "A;B",
            f"$({run})",
            f"`{run}`",
            "A\nB",
            "BASH_FUNC_env%%",
            "-x",
            "1",
            "\u00e9",
            "A'B",
            'A"B',
            "*",
            "A.B",
        ]
        startup = {
            "BASH_ENV": run,
            "ENV": run,
            "PYTHONSTARTUP": run,
            "PYTHONPATH": str(stage.canary.parent),
            "IFS": "t",
            "PS4": f"$({run})",
            "PROMPT_COMMAND": run,
            "PYTHONINSPECT": "1",
            "LD_DEBUG_OUTPUT": str(stage.canary),
            "TRUNKLINE_COMMAND_ID": "another",
            "TRUNKLINE_COMMAND_RUN": "another",
        }
        environment = dict.fromkeys(names, f"() {{ :; }}; {run}") | startup
        command, written = await stage.run(argv=["/usr/bin/env", "-0"], environment=environment)
        found = dict(line.split("=", 1) for line in written.decode().split("\0")[:-1])
        for name, text in environment.items():
            if not name.startswith("TRUNKLINE_"):
                assert found[name] == text
        assert found["TRUNKLINE_COMMAND_ID"] == command.command_id
        assert found["TRUNKLINE_COMMAND_RUN"] != "another"
        for name in ("", "A=B", "=", "A\0B"):
            await stage.refused(argv=["true"], environment={name: run})
        await stage.refused(argv=["true"], environment={"A": "x\0y"})
        await stage.refused(argv=["echo", "a\0b"])

    on_stage(sandbox, directory, work)


def test_the_program_and_the_directory_are_names_of_files(sandbox: Sandbox, directory: Path) -> None:
    async def work(stage: Stage) -> None:
        run = f"touch {stage.canary}"
        programs = [
            f"true; {run}",
            f"$({run})",
            f"`{run}`",
            f"true|{run}",
            run,
            "true ",
            " true",
            "~/x",
            "*",
            "-c",
            f"sh -c '{run}'",
        ]
        ended = await asyncio.gather(*[stage.run(argv=[program]) for program in programs])
        assert {command.state for command, _ in ended} == {CommandState.FAILED}
        assert {command.exit_code for command, _ in ended} == {None}
        names = [f"$({run.replace('/', '_')})", "a;b", "a b", "`x`", "-x", "*", "\n", "'", '"', "\u00e9"]
        for name in names:
            (stage.canary.parent / name).mkdir()
        places = [f"{stage.canary.parent}/{name}" for name in names]
        ended = await asyncio.gather(*[stage.run(argv=["pwd"], working_directory=place) for place in places])
        assert [written.decode().removesuffix("\n") for _, written in ended] == places
        missing = [f"/tmp; {run}", f"/$({run})", f"/tmp && {run}", "/tmp\n/etc", "/no/such"]
        ended = await asyncio.gather(*[stage.run(argv=["pwd"], working_directory=place) for place in missing])
        assert {command.state for command, _ in ended} == {CommandState.FAILED}
        for place in ("tmp", "", "~", "../..", f"$({run})", "/a\0b", "-"):
            await stage.refused(argv=["pwd"], working_directory=place)

    on_stage(sandbox, directory, work)


def test_users_are_names_that_the_owner_allows(sandbox: Sandbox, directory: Path) -> None:
    async def work(stage: Stage) -> None:
        run = f"touch {stage.canary}"
        malformed = [
            "",
            "0",
            "-1",
            "root ",
            " root",
            "root\n",
            "\nroot",
            "root;id",
            f"$({run})",
            "../root",
            "root/x",
            "ROOT",
            "root:root",
            "+0",
            "#0",
            "root\0",
            "a" * 33,
            "\uff52oot",
        ]
        for user in malformed:
            assert (await stage.refused((400,), argv=["id"], user=user)).error_code == "INVALID_PARAMETER_VALUE"
        for user in ("root", "daemon", "bin", "no-such-user", "sync"):
            refused = await stage.refused((403,), argv=["id"], user=user)
            assert refused.error_code == "POLICY_DENIED"
            assert refused.details == ({"policy_rule": "commands.allowed_users"},)

    on_stage(sandbox, directory, work)


def test_parameters_stay_in_their_places(sandbox: Sandbox, directory: Path) -> None:
    """Every payload as a parameter that may be anything: it is one argument; and as one that may not: it is refused."""

    async def work(stage: Stage) -> None:
        texts = payloads(str(stage.canary))
        for start in range(0, len(texts), MOST_PARAMETERS):
            some = texts[start : start + MOST_PARAMETERS]
            given = {f"a{number}": text for number, text in enumerate(some)}
            _, written = await stage.run(named="literal", parameters=given)
            expected = [*some, *[""] * (MOST_PARAMETERS - len(some))]
            assert written.decode() == "".join(f"{text}\n" for text in expected)
        kinds = ("word", "number", "truth", "colour", "path")
        asked = [{kind: text} for text in texts for kind in kinds]
        refused = await asyncio.gather(*[stage.refused((403,), named="strict", parameters=one) for one in asked])
        assert len(refused) > 500
        for error, one in zip(refused, asked, strict=True):
            assert error.details == ({"policy_rule": f"commands.named.strict.parameters.{next(iter(one))}"},)

    on_stage(sandbox, directory, work)


def test_names_and_forms_that_nobody_declared_are_refused(sandbox: Sandbox, directory: Path) -> None:
    async def work(stage: Stage) -> None:
        for name in ("", "strict;id", "../strict", "STRICT", "strict\n", "a" * 64, "$(id)"):
            await stage.refused((400,), named=name)
        for name in ("A", "a b", "a;b", "word\n", "$(id)", "__class__"):
            await stage.refused((400,), named="strict", parameters={name: "x"})
        await stage.refused((403,), named="strict", parameters={"extra": "x"})
        await stage.refused((403,), named="other")
        for document in (
            {"named": "strict", "argv": ["id"]},
            {"named": "strict", "parameters": {"word": ["x", "; id"]}},
            {"named": "strict", "parameters": {"word": {"x": "y"}}},
            {"named": "strict", "parameters": {"word": None}},
            {"named": "strict", "parameters": "word=x"},
            {"named": ["strict"]},
            {"argv": "id; id"},
            {"argv": ["id", ["x"]]},
            {"argv": ["id"], "shell": True},
            {"argv": ["id"], "environment": "A=1"},
            {"argv": ["id"], "user": 0},
        ):
            assert await stage.put(document) == 400, document

    on_stage(sandbox, directory, work)


def test_a_path_that_leads_out_by_a_link_is_refused(sandbox: Sandbox, directory: Path) -> None:
    async def work(stage: Stage) -> None:
        (directory / "good").write_text("")
        (directory / "link").symlink_to("/etc/passwd")
        (directory / "loop").symlink_to(directory / "loop")
        (directory / "inside").symlink_to(directory / "good")
        refused = await stage.refused((403,), named="strict", parameters={"path": f"{directory}/link"})
        assert refused.details == ({"policy_rule": "commands.named.strict.parameters.path"},)
        command, written = await stage.run(named="strict", parameters={"path": f"{directory}/inside"})
        assert written.decode().endswith(f"{directory}/good")
        assert command.argv[-1] == f"{directory}/good"

    on_stage(sandbox, directory, work)


def test_the_command_line_runs_a_named_command_and_shows_the_policy(sandbox: Sandbox) -> None:
    run = ["run", "--node", "vm-1", "--named", "strict", "--parameter"]
    assert sandbox.trunkline(*run, "word=hello").stdout.startswith(b"--word=hello1true")
    refused = sandbox.trunkline(*run, "word=$(id)", check=False)
    assert refused.returncode == os.EX_UNAVAILABLE
    assert b"policy rule commands.named.strict.parameters.word" in refused.stderr
    assert b"$(id)" not in refused.stderr
    shown = sandbox.json("node", "policy", "vm-1")["commands"]
    assert shown["named"]["strict"]["parameters"]["word"]["pattern"] == "[a-z]+"
    text = sandbox.trunkline("node", "policy", "vm-1").stdout.decode()
    assert "commands.named.strict.argv" in text
