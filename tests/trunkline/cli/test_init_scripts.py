"""The commands for init scripts, of workspaces, clusters and nodes: what is asked, and what is printed."""

from __future__ import annotations

import base64
import json
import os
import sys
from pathlib import Path

import pytest
from aiohttp import web

from tests.support.fake_control_plane import FakeControlPlane
from tests.trunkline.cli.conftest import Trunkline

GLOBAL, OF_RED = "/w/main/api/2.0/global-init-scripts", "/w/main/api/2.0/clusters/red/init-scripts"
BOTH = [(("init-script",), (), GLOBAL), (("cluster", "init-scripts"), ("red",), OF_RED)]


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "setup.sh"
    path.write_bytes(b"echo \xff\n")
    return str(path)


@pytest.mark.parametrize(("group", "of", "path"), BOTH)
def test_every_sub_command(
    fake: FakeControlPlane, trunkline: Trunkline, file: str, group: tuple[str, ...], of: tuple[str, ...], path: str
) -> None:
    secrets = ("--secret-env", "TOKEN=db/token", "--secret-file", "key.pem=db/key")
    made = trunkline(*group, "create", *of, "setup", file, "--enable", "--position", "2", *secrets)
    assert made.status == 0, made.stderr
    assert fake.requests[-1] == (
        "POST",
        path,
        {
            "name": "setup",
            "script": base64.b64encode(b"echo \xff\n").decode(),
            "enabled": True,
            "position": 2,
            "secrets": {"environment": {"TOKEN": "db/token"}, "files": {"key.pem": "db/key"}},
        },
    )
    assert b"setup" in trunkline(*group, "list", *of).stdout
    assert b"ZWNobyBoaQo=" not in trunkline(*group, "get", *of, "setup").stdout
    assert trunkline(*group, "get", *of, "setup", "--content").stdout == b"echo hi\n"
    for arguments, change in (
        (("update", *of, "setup", "--disable"), {"enabled": False}),
        (("update", *of, "setup", "--name", "other", "--file", file), {"name": "other", "script": "ZWNobyD/Cg=="}),
        (("update", *of, "setup", "--secret-env", "A=db/a"), {"secrets": {"environment": {"A": "db/a"}}}),
        (("update", *of, "setup", "--no-secrets"), {"secrets": None}),
        (("move", *of, "setup", "0"), {"position": 0}),
    ):
        assert trunkline(*group, *arguments).status == 0
        assert fake.requests[-1] == ("PATCH", f"{path}/setup", change)
    assert trunkline(*group, "delete", *of, "setup", "--yes").stdout == b"deleted setup\n"
    assert fake.requests[-1][:2] == ("DELETE", f"{path}/setup")


def test_a_script_is_not_enabled_unless_it_is_said(fake: FakeControlPlane, trunkline: Trunkline, file: str) -> None:
    assert trunkline("init-script", "create", "setup", file).status == 0
    assert fake.requests[-1][2]["enabled"] is False


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["create", "setup"], os.EX_USAGE),
        (["create", "setup", "no-such-file"], os.EX_NOINPUT),
        (["create", "setup", "large"], os.EX_DATAERR),
        (["create", "setup", "empty"], os.EX_DATAERR),
        (["create", "setup", "windows"], os.EX_DATAERR),
        (["update", "setup"], os.EX_USAGE),
        (["update", "setup", "--no-secrets", "--secret-env", "A=db/a"], os.EX_USAGE),
        (["move", "setup", "-1"], os.EX_USAGE),
    ],
)
def test_wrong_usage(
    fake: FakeControlPlane, trunkline: Trunkline, tmp_path: Path, arguments: list[str], status: int
) -> None:
    (tmp_path / "large").write_bytes(b"x" * 65537)
    (tmp_path / "empty").touch()
    (tmp_path / "windows").write_bytes(b"#!/bin/sh\r\nexit 0\r\n")
    assert trunkline("init-script", *arguments).status == status
    assert fake.requests == []


def test_a_node_is_initialised_again_under_the_next_number(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    fake.add_node("vm-1")
    assert trunkline("node", "init", "vm-1").status == 0
    assert trunkline("node", "init", "vm-1").status == 0
    runs = [(path, body) for method, path, body in fake.requests if method == "POST"]
    assert runs == [("/w/main/api/2.0/nodes/nd-vm-1/init", {"run": number}) for number in (1, 2)]


def test_what_failed_is_told_with_the_last_line_that_it_wrote(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    fake.add_node("vm-1")
    script = {"script_id": "is-1", "name": "setup", "state": "FAILED", "exit_code": 3}
    reason = "the init script 'setup' failed: it exited with status 3"
    tail = {"stderr_tail": "loading\nno such \x1b[31mpackage\n"}
    fake.nodes[0]["outcome"] = {"state": "INIT_FAILED", "reason": reason, "scripts": [script | tail]}
    outcome = trunkline("node", "init", "vm-1")
    assert (outcome.status, outcome.stderr) == (69, f"trunkline: {reason}: no such  [31mpackage\n")
    assert b"setup" in outcome.stdout
    shown = trunkline("node", "get", "vm-1").stdout
    assert b"INIT_FAILED" in shown
    assert b"setup" in shown
    as_json = json.loads(trunkline("node", "get", "vm-1", "-o", "json").stdout)
    assert as_json["init"]["scripts"][0]["exit_code"] == 3


def test_it_need_not_be_waited_for(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    fake.add_node("vm-1")
    fake.nodes[0]["outcome"] = {"state": "INITIALISING"}
    assert b"PENDING" in trunkline("node", "init", "vm-1", "--no-wait").stdout
    fake.nodes[0]["outcome"] = {"state": "INITIALISING"}
    assert trunkline("node", "init", "vm-1", "--timeout", "1").status == os.EX_TEMPFAIL


def test_a_script_steers_no_terminal(
    fake: FakeControlPlane, trunkline: Trunkline, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = base64.b64encode(b"rm -rf /\x1b[2K\recho hi\n").decode()
    fake.failures = [web.json_response({"script_id": "is-1", "name": "setup", "script": hidden})]
    controlling, terminal = os.openpty()
    with os.fdopen(terminal, "w") as output, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", output)
        status = trunkline("init-script", "get", "setup", "--content").status
    shown = os.read(controlling, 1000)
    os.close(controlling)
    assert (status, b"\x1b" in shown) == (0, False)
    fake.failures = [web.json_response({"script_id": "is-1", "name": "setup", "script": "ü"})]
    assert trunkline("init-script", "get", "setup", "--content").status == os.EX_PROTOCOL
