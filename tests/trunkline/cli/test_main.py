"""The tree of sub-commands, errors and exit statuses."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from aiohttp import web

from tests.support.fake_control_plane import ACCOUNT, FakeControlPlane, error
from tests.trunkline.cli.conftest import Trunkline
from trunkline.cli.main import _COMMANDS, cli, main
from trunkline.version import __version__

HEAVY = ("aiohttp", "pydantic", "cryptography", "structlog", "rich", "asyncio")
NOT_FOR_ONE_CALL = (
    "cryptography", "structlog", "rich", "sqlalchemy", "prometheus_client", "certs.tls", "trunkline.client.workspace",
    "trunkline.client.control_plane", "trunkline.cli.fleet_run", "trunkline.cli.command_copy", "relay", "control_plane",
)  # fmt: skip


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"trunkline {__version__}\n"


def test_version_imports_nothing_heavy() -> None:
    code = "import sys; from trunkline.cli.main import main; main(['--version']); print(*sys.modules)"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    loaded = finished.stdout.splitlines()[-1].split()
    assert not [name for name in HEAVY if name in loaded]


def test_a_cancel_imports_what_one_call_needs(fake: FakeControlPlane, tmp_path: Path) -> None:
    fake.add_node("vm-1")
    fake.commands["cmd-1"] = {"command_id": "cmd-1", "node": "vm-1", "state": "RUNNING"}
    cancel = ["command", "cancel", "cmd-1", "-o", "json"]
    code = f"import sys; from trunkline.cli.main import main; assert main({cancel}) == 0; print(*sys.modules)"
    finished = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | fake.environment | {"HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    loaded = finished.stdout.splitlines()[-1].split()
    assert fake.cancelled == ["cmd-1"]
    assert "aiohttp" in loaded
    assert not [name for name in NOT_FOR_ONE_CALL if name in loaded]


@pytest.mark.parametrize("name", sorted(set(_COMMANDS) - {"relay", "node-agent", "control-plane"}))
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"Usage: trunkline {name}")


@pytest.mark.parametrize("name", sorted(name for name, (_, line) in _COMMANDS.items() if "list, " in line))
def test_the_line_of_a_group_that_names_its_commands_names_all(name: str) -> None:
    context = click.Context(cli)
    group = cli.get_command(context, name)
    assert isinstance(group, click.Group)
    assert set(group.list_commands(context)) <= set(re.findall(r"[a-z-]+", _COMMANDS[name][1]))


def test_help_of_the_control_plane_names_init(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["control-plane", "--help"]) == 0
    assert "trunkline control-plane init --config FILE" in capsys.readouterr().out
    assert main(["control-plane", "init", "--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: trunkline control-plane init ")


@pytest.mark.parametrize("arguments", [["bogus"], ["node"], ["node", "list", "--bogus"], [], ["node", "get"]])
def test_wrong_usage_is_64(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == os.EX_USAGE
    assert capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nodes"], "No such command 'nodes'. Did you mean 'node'? (see trunkline --help)"),
        (["bogus"], "No such command 'bogus' (see trunkline --help)"),
        (["relay", "list"], "`trunkline relays list` is for the enrolled ones (see trunkline relay --help)"),
        (["completion"], "Choose from: bash, zsh, fish (see trunkline completion --help)"),
    ],
)
def test_wrong_usage_is_one_line_that_says_what_to_do(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == os.EX_USAGE
    error_lines = capsys.readouterr().err.splitlines()
    assert len(error_lines) == 1
    assert error_lines[0].endswith(told)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["relay", "drain"], "--config FILE [--wait [--timeout SECONDS]]"),
        (["control-plane", "take-back"], "DOCUMENT --config FILE"),
    ],
)
def test_usage_names_what_only_this_command_takes(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: trunkline {' '.join(arguments)} {words}")


def test_an_unknown_daemon_option_is_the_daemons_to_refuse(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["relay", "--config", "/nonexistent.toml", "--check-config"]) == os.EX_CONFIG


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert "_TRUNKLINE_COMPLETE" in capsys.readouterr().out


def test_a_long_list_comes_page_by_page_as_a_table(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    for number in range(5):
        fake.add_node(f"vm-{number}", zone="a\x1b[31m")
    outcome = trunkline("node", "list")
    assert outcome.status == 0
    lines = outcome.stdout.decode().splitlines()
    assert lines[0].split()[:3] == ["NODE", "STATE", "INIT"]
    assert [line.split()[0] for line in lines[1:]] == [f"vm-{number}" for number in range(5)]
    assert "\x1b" not in outcome.stdout.decode()
    assert all(line == line.rstrip() for line in lines)
    pages = [path for method, path, _ in fake.requests if "/nodes" in path]
    assert [("page_token=2" in path, "page_token=4" in path) for path in pages] == [
        (False, False), (True, False), (False, True),
    ]  # fmt: skip


def test_json_is_for_programs(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    fake.add_node("vm-1", zone="a")
    (node,) = json.loads(trunkline("node", "list", "-o", "json").stdout)["nodes"]
    assert node["node"] == "vm-1"
    assert node["labels"] == {"zone": "a"}
    assert json.loads(trunkline("node", "get", "vm-1", "-o", "json").stdout)["node_id"] == "nd-vm-1"
    assert json.loads(trunkline("node", "delete", "vm-1", "--yes", "-o", "json").stdout) == {}


def test_filters_become_parameters(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    trunkline("node", "list", "-l", "a=1", "-l", "b=2", "--state-is", "online", "--cluster", "c")
    path = fake.requests[-1][1]
    assert "state=online" in path
    assert "cluster=c" in path
    assert "label=a%3D1&label=b%3D2" in path


def test_workspaces_are_the_accounts(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    assert trunkline("workspace", "create", "finance").status == 0
    assert fake.requests[-1][:2] == ("POST", f"/api/2.0/accounts/{ACCOUNT}/workspaces")


def test_what_relays_have_reported_is_shown(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    relay = {"relay_id": "rl-1", "name": "relay-1", "trust_sequence": 7}
    fake.failures = [web.json_response({"account_id": ACCOUNT}), web.json_response({"relays": [relay]})]
    (shown,) = json.loads(trunkline("relays", "list", "-o", "json").stdout)["relays"]
    assert shown["trust_sequence"] == 7


def test_a_workspace_without_quotas_says_so(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    fake.failures = [web.json_response({"account_id": ACCOUNT}), web.json_response({"workspace": {}, "sender": {}})]
    assert trunkline("workspace", "quotas", "main").stdout == b"no quotas: what it and its senders use is not bounded\n"


def test_quotas_are_shown_and_replaced(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    path = f"/api/2.0/accounts/{ACCOUNT}/workspaces/finance/quotas"
    stated = {"workspace": {"calls_per_second": 5}, "sender": {"concurrent_calls": 2}}
    shown = trunkline("workspace", "quotas", "finance", "-o", "json")
    assert json.loads(shown.stdout)["workspace"]["calls_per_second"] == 5
    trunkline("workspace", "quotas", "finance", "--calls-per-second", "5", "--sender-concurrent-calls", "2")
    assert fake.requests[-1] == ("PUT", path, stated)
    trunkline("workspace", "quotas", "finance", "--none")
    assert fake.requests[-1] == ("PUT", path, {"workspace": {}, "sender": {}})
    assert trunkline("workspace", "quotas", "finance", "--none", "--calls-per-second", "5").status == os.EX_USAGE


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (error(400, "INVALID_PARAMETER_VALUE", "no"), os.EX_DATAERR),
        (error(401, "UNAUTHENTICATED", "no"), os.EX_NOPERM),
        (error(403, "PERMISSION_DENIED", "no"), os.EX_NOPERM),
        (error(404, "RESOURCE_DOES_NOT_EXIST", "no"), os.EX_NOINPUT),
        (error(409, "RESOURCE_CONFLICT", "no"), os.EX_DATAERR),
        (error(500, "INTERNAL_ERROR", "no"), os.EX_UNAVAILABLE),
    ],
)
def test_refusals_are_one_line_and_a_status(fake: FakeControlPlane, trunkline: Trunkline, failure, status: int) -> None:
    fake.failures = [failure]
    outcome = trunkline("node", "get", "vm-1")
    assert outcome.status == status
    assert outcome.stderr.startswith("trunkline: no")
    assert outcome.stderr.count("\n") == 1


def test_a_passing_failure_is_tried_again(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    fake.add_node("vm-1")
    fake.failures = [error(503, "TEMPORARILY_UNAVAILABLE", "no"), error(429, "RESOURCE_EXHAUSTED", "no")]
    assert trunkline("node", "get", "vm-1").status == 0


def test_a_control_plane_that_is_not_trusted(
    trunkline: Trunkline, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from tests.support.identities import IdentityKit

    other = IdentityKit(tmp_path_factory.mktemp("other"))
    monkeypatch.setenv("TRUNKLINE_CA_FILE", str(other.ca_file))
    outcome = trunkline("node", "get", "vm-1")
    assert outcome.status == os.EX_UNAVAILABLE
    assert "certificate" in outcome.stderr
    assert "name the file of its roots (TRUNKLINE_CA_FILE, ca_file)" in outcome.stderr
    assert outcome.stderr.count("\n") == 1


def test_a_control_plane_under_a_name_that_its_certificate_has_not(
    fake: FakeControlPlane, trunkline: Trunkline, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = os.environ["TRUNKLINE_CONTROL_PLANE_URL"]
    monkeypatch.setenv("TRUNKLINE_CONTROL_PLANE_URL", url.replace("localhost", "127.0.0.1"))
    outcome = trunkline("node", "get", "vm-1")
    assert outcome.status == os.EX_UNAVAILABLE
    assert "IP address mismatch" in outcome.stderr
    assert "identity.dns_names" in outcome.stderr
    assert outcome.stderr.count("\n") == 1


def test_tokens_go_to_standard_output_or_into_a_private_file(
    fake: FakeControlPlane, trunkline: Trunkline, tmp_path: Path
) -> None:
    outcome = trunkline("token", "call", "vm-1", "--scope", "port:9100")
    assert outcome.stdout == b"secret-token\n"
    path = tmp_path / "token"
    outcome = trunkline("token", "join", "--uses", "3", "--label", "a=b", "--file", str(path))
    assert outcome.stdout == b""
    assert "secret" not in outcome.stderr
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("tlj-secret\n", 0o600)
    made = len(fake.requests)
    again = trunkline("token", "join", "--file", str(path))
    assert again.status == os.EX_CANTCREAT
    assert again.stderr == f"trunkline: {path} exists already: remove it, or name another file\n"
    nowhere = trunkline("token", "call", "vm-1", "--file", str(tmp_path / "missing" / "token"))
    assert nowhere.status == os.EX_CANTCREAT
    assert "there is no such directory" in nowhere.stderr
    assert len(fake.requests) == made, "no token was made that nobody has"
    assert path.read_text() == "tlj-secret\n"


@pytest.mark.parametrize("words", [["node", "list"], ["--help"], ["run", "--help"]])
def test_a_reader_that_goes_is_no_error(fake: FakeControlPlane, words: list[str]) -> None:
    fake.add_node("vm-1")
    reading, writing = os.pipe()
    os.close(reading)
    try:
        finished = subprocess.run(
            [sys.executable, "-m", "trunkline", *words],
            env=os.environ | fake.environment,
            stdout=writing,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writing)
    assert (finished.returncode, finished.stderr) == (141, b"")


def test_a_reader_that_goes_is_no_error_of_the_sandboxs_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def gone(plan: object) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    with (tmp_path / "output").open("w") as output:
        monkeypatch.setattr("trunkline.cli.sandbox._run_here", gone)
        monkeypatch.setattr(sys, "stdout", output)
        assert main(["up", "--state", str(tmp_path / "sandbox")]) == 141


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["node", "list"], ["node", "list", "-o", "json"]])
def test_an_output_that_takes_nothing_is_one_line(
    fake: FakeControlPlane, trunkline: Trunkline, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    fake.add_node("vm-1")
    with Path("/dev/full").open("w") as full, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", full)
        outcome = trunkline(*arguments)
    assert outcome.status == os.EX_IOERR
    assert outcome.stderr == "trunkline: the output cannot be written: No space left on device\n"


def test_a_directory_that_is_gone_is_no_traceback(
    trunkline: Trunkline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert trunkline("cluster", "list", "--bogus").status == os.EX_USAGE
    assert trunkline("node", "list").status == 0
    for command in ("up", "down"):
        outcome = trunkline(command)
        assert outcome.status == os.EX_NOINPUT
        assert "the current directory has been removed" in outcome.stderr


@pytest.mark.parametrize("name", ["", ".", "..", "\udcff"])
def test_what_is_no_name_is_not_asked_for(fake: FakeControlPlane, trunkline: Trunkline, name: str) -> None:
    outcome = trunkline("node", "get", name)
    assert outcome.status == os.EX_DATAERR
    assert outcome.stderr.count("\n") == 1
    assert trunkline("cluster", "remove", name, "vm-1").status == os.EX_DATAERR
    assert not fake.requests


def test_bytes_that_are_no_text_are_said_to_be(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    outcome = trunkline("run", "--node", "vm-1", "--", "echo", "\udcff")
    assert outcome.status == os.EX_DATAERR
    assert "bytes that are not UTF-8" in outcome.stderr
    assert not fake.requests


@pytest.mark.parametrize("entries", [None, 5, {"vm-1": {}}, "vm-1"])
def test_a_list_that_is_none_is_one_line(fake: FakeControlPlane, trunkline: Trunkline, entries: object) -> None:
    fake.failures = [web.json_response({"nodes": entries})]
    outcome = trunkline("node", "list")
    assert outcome.status == os.EX_PROTOCOL
    assert outcome.stderr.count("\n") == 1


@pytest.mark.parametrize("words", [("call", "vm-1"), ("workspace", "--port", "1"), ("join",)])
@pytest.mark.parametrize("token", ['t"\noutput = ".bashrc"', "t\x1b[2J", "", "t\n", "ü"])
def test_a_token_is_no_more_than_one(
    fake: FakeControlPlane, trunkline: Trunkline, tmp_path: Path, words: tuple[str, ...], token: str
) -> None:
    answer = {"token": token, "join_token": token, "expire_time": 10**30}
    fake.failures = [web.json_response(answer), web.json_response(answer)]
    for arguments in (words, (*words, "--file", str(tmp_path / "token"))):
        outcome = trunkline("token", *arguments)
        assert (outcome.status, outcome.stdout) == (os.EX_PROTOCOL, b"")
        assert outcome.stderr.count("\n") == 1
    assert not (tmp_path / "token").exists()


def test_a_time_that_is_none_keeps_no_token_back(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    fake.failures = [web.json_response({"token": "t-1", "expire_time": 10**30, "host": "\x1b[2J", "relays": []})]
    outcome = trunkline("token", "call", "vm-1")
    assert (outcome.status, outcome.stdout) == (0, b"t-1\n")
    assert "\x1b" not in outcome.stderr
