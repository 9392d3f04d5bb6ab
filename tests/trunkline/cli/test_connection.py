"""Where the command finds its control plane."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from trunkline.cli.connection import find_connection
from trunkline.cli.exits import CommandFailed

ENVIRONMENT = {"TRUNKLINE_CONTROL_PLANE_URL": "https://cp.test", "TRUNKLINE_TOKEN": "t-env"}


def write_sandbox(directory: Path, content: str = "t-sandbox") -> Path:
    directory.mkdir(mode=0o700, exist_ok=True)
    (directory / "token").write_text(f"{content}\n")
    document = {
        "control_plane_url": "https://localhost:1",
        "relay_url": "https://localhost:2",
        "ca_file": str(directory / "ca.pem"),
        "workspace": "main",
        "admin_token_file": str(directory / "token"),
        "more": 1,
    }
    path = directory / "sandbox.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps(document))
    return path


def test_the_sandbox_of_the_directory_comes_first(tmp_path: Path) -> None:
    write_sandbox(tmp_path / ".trunkline")
    connection = find_connection(None, ENVIRONMENT, tmp_path)
    assert (connection.control_plane_url, connection.token) == ("https://localhost:1", "t-sandbox")
    assert connection.ca_file == tmp_path / ".trunkline" / "ca.pem"


def test_a_sandbox_can_be_named(tmp_path: Path) -> None:
    write_sandbox(tmp_path / ".trunkline", "t-near")
    write_sandbox(tmp_path / "far", "t-far")
    assert find_connection(tmp_path / "far", {}, tmp_path).token == "t-far"


def test_a_named_sandbox_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="no sandbox is running") as caught:
        find_connection(tmp_path / "none", ENVIRONMENT, tmp_path)
    assert caught.value.status == os.EX_NOINPUT


@pytest.mark.parametrize("mode", [0o622, 0o666])
def test_a_sandbox_that_others_can_write_is_not_used(tmp_path: Path, mode: int) -> None:
    write_sandbox(tmp_path / ".trunkline").chmod(mode)
    with pytest.raises(CommandFailed, match="another user"):
        find_connection(None, {}, tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"admin_token_file": 3}', "not json"])
def test_a_broken_sandbox_file_says_what_to_do(tmp_path: Path, content: str) -> None:
    write_sandbox(tmp_path / ".trunkline").write_text(content)
    with pytest.raises(CommandFailed, match="trunkline up"):
        find_connection(None, {}, tmp_path)


def test_the_environment(tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text("t-file\n")
    environment = ENVIRONMENT | {"TRUNKLINE_TOKEN_FILE": str(token_file), "TRUNKLINE_WORKSPACE": "finance"}
    connection = find_connection(None, environment, tmp_path)
    assert (connection.token, connection.workspace, connection.ca_file) == ("t-file", "finance", None)
    assert "t-file" not in repr(connection)


@pytest.mark.parametrize(("mode", "warns"), [(0o600, False), (0o640, False), (0o644, True)])
def test_a_token_that_everybody_can_read_is_used_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mode: int, warns: bool
) -> None:
    token_file = tmp_path / "token"
    token_file.write_text("t-file\n")
    token_file.chmod(mode)
    find_connection(None, ENVIRONMENT | {"TRUNKLINE_TOKEN_FILE": str(token_file)}, tmp_path)
    told = capsys.readouterr().err
    assert told == (f"trunkline: {token_file} can be read by everybody on this machine: chmod 600\n" if warns else "")


def test_the_configuration_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t-config")
    directory = tmp_path / ".config" / "trunkline"
    directory.mkdir(parents=True)
    (directory / "config.toml").write_text(
        f'control_plane_url = "https://cp.test"\ntoken_file = "{tmp_path}/token"\nworkspace = "w"\n'
    )
    connection = find_connection(None, {"HOME": str(tmp_path)}, tmp_path)
    assert (connection.control_plane_url, connection.token, connection.workspace) == (
        "https://cp.test",
        "t-config",
        "w",
    )


def test_the_configuration_files_paths_begin_at_its_directory_wherever_we_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, checkout = tmp_path / "trunkline", tmp_path / "checkout"
    for place, token in ((directory, "ours"), (checkout, "of another")):
        place.mkdir()
        (place / "token").write_text(token)
        (place / "ca.pem").touch()
    config = "control_plane_url = 'https://cp.test'\ntoken_file = 'token'\nca_file = 'ca.pem'\n"
    (directory / "config.toml").write_text(config)
    monkeypatch.chdir(checkout)
    connection = find_connection(None, {"XDG_CONFIG_HOME": str(tmp_path)}, checkout)
    assert (connection.token, connection.ca_file) == ("ours", directory / "ca.pem")


@pytest.mark.parametrize("place", [".trunkline/sandbox.json", ".config/trunkline/config.toml"])
def test_a_fifo_where_a_file_of_ours_belongs_is_not_waited_for(tmp_path: Path, place: str) -> None:
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    os.mkfifo(path, 0o600)
    with pytest.raises(CommandFailed, match="not a regular file: remove it"):
        find_connection(None, {"HOME": str(tmp_path)}, tmp_path)


def test_all_problems_of_the_configuration_file_at_once(tmp_path: Path) -> None:
    directory = tmp_path / "config" / "trunkline"
    directory.mkdir(parents=True)
    (directory / "config.toml").write_text('colour = "red"\nca_file = 3\n')
    with pytest.raises(CommandFailed, match="colour: unknown key; ca_file: must be text") as caught:
        find_connection(None, {"XDG_CONFIG_HOME": str(tmp_path / "config")}, tmp_path)
    assert caught.value.status == os.EX_CONFIG


def test_nothing_known_says_what_there_is_to_set(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=r"TRUNKLINE_CONTROL_PLANE_URL.*trunkline up") as caught:
        find_connection(None, {"HOME": str(tmp_path)}, tmp_path)
    assert caught.value.status == os.EX_CONFIG


@pytest.mark.parametrize("content", ["", "two words\nlines", "\x00", "ü"])
def test_a_file_without_a_token(tmp_path: Path, content: str) -> None:
    (tmp_path / "token").write_text(content)
    environment = ENVIRONMENT | {"TRUNKLINE_TOKEN_FILE": str(tmp_path / "token")}
    with pytest.raises(CommandFailed, match="does not hold a token"):
        find_connection(None, environment, tmp_path)


def change_sandbox(path: Path, **changes: str) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    "change",
    [
        {"control_plane_url": "https://elsewhere.test"},
        {"control_plane_url": "https://localhost@elsewhere.test"},
        {"control_plane_url": "https://localhost.elsewhere.test"},
        {"control_plane_url": "https://me@localhost"},
        {"control_plane_url": "https://[::1"},
        {"relay_url": "https://elsewhere.test"},
        {"admin_token_file": "OUTSIDE/operator-token"},
        {"admin_token_file": "OUTSIDE/.trunkline/../operator-token"},
        {"admin_token_file": "OUTSIDE/.trunkline/link"},
        {"ca_file": "/etc/hostname"},
    ],
)
def test_a_sandbox_that_came_with_a_checkout_sends_no_token_of_ours_anywhere(
    tmp_path: Path, change: dict[str, str]
) -> None:
    (tmp_path / "operator-token").write_text("t-production")
    path = write_sandbox(tmp_path / ".trunkline")
    (path.parent / "link").symlink_to("../operator-token")
    change_sandbox(path, **{name: value.replace("OUTSIDE", str(tmp_path)) for name, value in change.items()})
    with pytest.raises(CommandFailed, match="as no sandbox does") as caught:
        find_connection(None, ENVIRONMENT, tmp_path)
    assert caught.value.status == os.EX_NOPERM


def test_a_sandbox_may_be_reached_by_a_link(tmp_path: Path) -> None:
    write_sandbox(tmp_path / "elsewhere")
    (tmp_path / ".trunkline").symlink_to("elsewhere")
    assert find_connection(None, ENVIRONMENT, tmp_path).token == "t-sandbox"


def test_what_cannot_be_looked_at_is_not_passed_over(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="File name too long"):
        find_connection(tmp_path / ("x" * 300), ENVIRONMENT, tmp_path)
    with pytest.raises(CommandFailed, match="File name too long"):
        find_connection(None, {"XDG_CONFIG_HOME": "/" + "x" * 300}, tmp_path)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("token_file = '~nobody-has-this-name/token'", "is not known"),
        (r'token_file = "a\u0000b"', "is no path"),
        ("ca_file = '~nobody-has-this-name/ca'", "is not known"),
    ],
)
def test_a_path_that_leads_nowhere_is_one_line(tmp_path: Path, line: str, problem: str) -> None:
    (tmp_path / "trunkline").mkdir()
    (tmp_path / "trunkline" / "config.toml").write_text(f"control_plane_url = 'https://cp.test'\n{line}\n")
    with pytest.raises(CommandFailed, match=problem) as caught:
        find_connection(None, {"XDG_CONFIG_HOME": str(tmp_path), "TRUNKLINE_TOKEN": "t"}, tmp_path)
    assert caught.value.status == os.EX_CONFIG


def test_a_home_that_is_empty_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".config" / "trunkline").mkdir(parents=True)
    (tmp_path / ".config" / "trunkline" / "config.toml").write_text("control_plane_url = 'https://cp.test'")
    with pytest.raises(CommandFailed, match="no control plane is known here"):
        find_connection(None, {"HOME": "", "TRUNKLINE_TOKEN": "t"}, tmp_path)
