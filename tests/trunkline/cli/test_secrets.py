"""`trunkline secret`: where values come from, and what is sent."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_control_plane import FakeControlPlane
from tests.trunkline.cli.conftest import Trunkline


class _Stdin:
    def __init__(self, content: bytes) -> None:
        self.buffer = io.BytesIO(content)

    def isatty(self) -> bool:
        return False


def sent(fake: FakeControlPlane) -> tuple[str, Any]:
    _, path, body = fake.requests[-1]
    return path.removeprefix("/w/main/api/2.0/secrets/"), body


@pytest.mark.parametrize(
    ("options", "content", "value"),
    [
        ([], b"hunter2", b"hunter2"),
        ([], b"\x00\xff\n", b"\x00\xff\n"),
        (["--strip-newline"], b"hunter2\r\n", b"hunter2"),
        (["--strip-newline"], b"hunter2\n\n", b"hunter2\n"),
    ],
)
def test_a_value_is_read_from_standard_input_as_it_is(
    fake: FakeControlPlane, trunkline: Trunkline, monkeypatch: pytest.MonkeyPatch, options, content, value
) -> None:
    monkeypatch.setattr("sys.stdin", _Stdin(content))
    outcome = trunkline("secret", "put", "db/password", *options)
    assert (outcome.status, outcome.stdout) == (0, b"db/password has version 7\n")
    path, body = sent(fake)
    assert (path, base64.b64decode(body["bytes_value"])) == ("put", value)
    assert ("line end" in outcome.stderr) == (value.endswith(b"\n") and not options)
    assert "hunter2" not in outcome.stdout.decode() + outcome.stderr


def test_the_version_is_for_programs_too(
    fake: FakeControlPlane, trunkline: Trunkline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", _Stdin(b"hunter2"))
    assert json.loads(trunkline("secret", "put", "db/password", "-o", "json").stdout) == {"version": 7}


def test_a_value_is_read_from_a_file(fake: FakeControlPlane, trunkline: Trunkline, tmp_path: Path) -> None:
    file = tmp_path / "value"
    file.write_bytes(b"hunter2")
    file.chmod(0o600)
    assert trunkline("secret", "put", "db/password", "--file", str(file)).stderr == ""
    assert base64.b64decode(sent(fake)[1]["bytes_value"]) == b"hunter2"
    file.chmod(0o644)
    assert "everybody" in trunkline("secret", "put", "db/password", "--file", str(file)).stderr


@pytest.mark.parametrize("content", [b"", b"\n", b"x" * 131_073])
def test_what_is_no_value_is_not_sent(
    fake: FakeControlPlane, trunkline: Trunkline, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setattr("sys.stdin", _Stdin(content))
    assert trunkline("secret", "put", "db/password", "--strip-newline").status == 65
    assert fake.requests == []


@pytest.mark.parametrize("words", [("put", "db"), ("put", "/k"), ("delete", "db/"), ("adoption", "db")])
def test_names_that_are_none(fake: FakeControlPlane, trunkline: Trunkline, words: tuple[str, ...]) -> None:
    assert trunkline("secret", *words).status == 64
    assert fake.requests == []


def test_a_value_is_never_an_argument(trunkline: Trunkline) -> None:
    assert trunkline("secret", "put", "db/password", "hunter2").status == 64


@pytest.mark.parametrize(
    ("words", "path", "body"),
    [
        (("create-scope", "db"), "scopes/create", {"scope": "db"}),
        (("delete-scope", "db", "--yes"), "scopes/delete", {"scope": "db"}),
        (("delete", "db/k", "--yes"), "delete", {"scope": "db", "key": "k"}),
        (("grant", "db", "--node", "vm-1"), "grants/put", {"scope": "db", "target": {"node": "vm-1"}}),
        (("grant", "db", "-l", "a=b"), "grants/put", {"scope": "db", "target": {"selector": {"a": "b"}}}),
        (("ungrant", "db", "--all"), "grants/delete", {"scope": "db", "target": {"all": True}}),
    ],
)
def test_what_is_sent(
    fake: FakeControlPlane, trunkline: Trunkline, words: tuple[str, ...], path: str, body: dict[str, Any]
) -> None:
    assert trunkline("secret", *words).status == 0
    assert sent(fake) == (path, body)


def test_a_grant_names_one_target(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    for words in ((), ("--node", "a", "--all")):
        assert trunkline("secret", "grant", "db", *words).status == 64
    assert fake.requests == []


def test_lists(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    assert b"db" in trunkline("secret", "list-scopes").stdout
    assert b"password" in trunkline("secret", "list", "db").stdout
    assert b"node=vm-1" in trunkline("secret", "grants", "db").stdout
    assert b"adopted" in trunkline("secret", "adoption", "db/password").stdout
    assert b"kek-1" in trunkline("secret", "rotate-key").stdout


def test_adoption_says_to_programs_which_version_nodes_are_to_hold(trunkline: Trunkline) -> None:
    said = json.loads(trunkline("secret", "adoption", "db/password", "-o", "json").stdout)
    assert (said["version"], said["nodes"][0]["node"]) == (7, "vm-1")


def test_a_command_refers_to_secrets(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    fake.add_node("vm-1")
    options = ["--secret-env", "PW=db/password", "--secret-file", "key.pem=db/pem"]
    assert trunkline("run", "--node", "vm-1", *options, "--", "true").status == 0
    body = next(body for method, path, body in fake.requests if method == "POST")
    assert body["secrets"] == {"environment": {"PW": "db/password"}, "files": {"key.pem": "db/pem"}}
