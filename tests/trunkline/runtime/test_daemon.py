import asyncio
from dataclasses import replace

import pytest

from trunkline.runtime.daemon import EXIT_UNAVAILABLE, Daemon, StartError, run_daemon
from trunkline.runtime.files import StateDirectoryError
from trunkline.runtime.settings import DaemonSettings


class Example(DaemonSettings):
    outcome: str = "well"


async def serve(settings: Example) -> None:
    async with asyncio.TaskGroup():
        if settings.outcome == "start":
            raise StartError("the port is taken; choose another", EXIT_UNAVAILABLE)
        if settings.outcome == "state":
            raise StateDirectoryError("state directory /s: another process is using it")
        if settings.outcome == "bug":
            raise RuntimeError("unforeseen")


EXAMPLE = Daemon(name="example", prefix="TRUNKLINE_EXAMPLE", settings_class=Example, serve=serve)


pytestmark = pytest.mark.usefixtures("restored_logging")


@pytest.mark.parametrize(
    ("outcome", "code", "line"),
    [
        ("well", 0, ""),
        ("start", 69, "the port is taken; choose another"),
        ("state", 73, "another process is using it"),
        ("bug", 70, "RuntimeError"),
    ],
)
def test_exit_codes(tmp_path, capsys, outcome, code, line):
    config = tmp_path / "example.toml"
    config.write_text(f'state_directory = "/s"\noutcome = "{outcome}"\n')
    assert run_daemon(EXAMPLE, ["--config", str(config)], {}) == code
    shown = capsys.readouterr().err
    assert line in shown
    assert shown.count("\n") == (1 if code else 0)


def test_check_config_prints_ok(tmp_path, capsys):
    config = tmp_path / "example.toml"
    config.write_text('state_directory = "/s"\n')
    assert run_daemon(EXAMPLE, ["--config", str(config), "--check-config"], {}) == 0
    assert capsys.readouterr().out == "ok\n"


def test_check_config_looks_into_files_that_the_settings_point_at(tmp_path, capsys):
    config = tmp_path / "example.toml"
    config.write_text('state_directory = "/s"\n')
    checked = replace(EXAMPLE, check=lambda settings: [f"{settings.state_directory}: wrong", "another"])
    assert run_daemon(checked, ["--config", str(config), "--check-config"], {}) == 78
    assert capsys.readouterr().err == "trunkline example: /s: wrong\ntrunkline example: another\n"


def test_wrong_settings_are_listed_and_exit_78(tmp_path, capsys):
    config = tmp_path / "example.toml"
    config.write_text("colour = 1\n")
    assert run_daemon(EXAMPLE, ["--config", str(config), "--check-config"], {"TRUNKLINE_EXAMPLE__X": "1"}) == 78
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == 3
    assert all(line.startswith("trunkline example: ") for line in shown)


def test_wrong_arguments_exit_64(capsys):
    with pytest.raises(SystemExit) as caught:
        run_daemon(EXAMPLE, ["--colour"], {})
    assert caught.value.code == 64
    assert capsys.readouterr().err.count("\n") == 1
