import json
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field

from trunkline.runtime.secret import Secret
from trunkline.runtime.settings import (
    AdminSettings,
    DaemonSettings,
    Port,
    ReadableFile,
    Section,
    SettingsError,
    load_settings,
)


class Listen(Section):
    address: str = "0.0.0.0"
    port: Port = 443


class Limits(Section):
    head_seconds: float = 10.0
    doors: list[str] = Field(default=[])
    links: Annotated[int, Field(gt=0)] = 5


class Example(DaemonSettings):
    listen: Listen = Listen()
    admin: AdminSettings = AdminSettings(port=0)
    limits: Limits = Limits()
    ca_file: ReadableFile | None = None
    password: Secret | None = None


PREFIX = "TRUNKLINE_EXAMPLE"


def load(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> Example:
    path = tmp_path / "example.toml"
    path.write_text(text)
    return load_settings(Example, path, environ or {}, prefix=PREFIX)


def problems(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text, environ)
    return caught.value.problems


def test_the_file_is_read_and_the_environment_laid_over_it(tmp_path):
    environ = {
        "TRUNKLINE_EXAMPLE__LISTEN__PORT": "8443",
        "TRUNKLINE_EXAMPLE__LIMITS__DOORS": '["gateway", "proxy"]',
        "TRUNKLINE_EXAMPLE__LIMITS__HEAD_SECONDS": "2.5",
        "TRUNKLINE_EXAMPLE__PASSWORD": "1234567890",
        "TRUNKLINE_OTHER__LISTEN__PORT": "1",
        "PATH": "/bin",
    }
    settings = load(tmp_path, 'state_directory = "/s"\n[listen]\nport = 1\naddress = "::"\n', environ)
    assert settings.state_directory == Path("/s")
    assert (settings.listen.address, settings.listen.port) == ("::", 8443)
    assert settings.limits.doors == ["gateway", "proxy"]
    assert settings.limits.head_seconds == 2.5
    assert settings.password is not None
    assert settings.password.reveal() == "1234567890"
    assert "1234567890" not in repr(settings)


def test_a_whole_table_in_one_variable_is_json(tmp_path):
    environ = {"TRUNKLINE_EXAMPLE__LISTEN": json.dumps({"port": 9}), "TRUNKLINE_EXAMPLE__STATE_DIRECTORY": "/s"}
    settings = load_settings(Example, None, environ, prefix=PREFIX)
    assert settings.listen.port == 9
    assert settings.state_directory == Path("/s")


def test_all_problems_come_at_once_each_with_its_source(tmp_path):
    text = """
        colour = "red"
        ca_file = "/does/not/exist"
        [listen]
        port = "443"
        prot = 1
        [admin]
        address = "0.0.0.0"
        port = 70000
    """
    environ = {
        "TRUNKLINE_EXAMPLE__LIMITS__HEAD_SECONDS": "soon",
        "TRUNKLINE_EXAMPLE__LIMITS__LNIKS": "7",
        "TRUNKLINE_EXAMPLE__LIMIT__LINKS": "7",
    }
    assert sorted(problems(tmp_path, text, environ)) == [
        "TRUNKLINE_EXAMPLE__LIMITS__HEAD_SECONDS: must be a number",
        "TRUNKLINE_EXAMPLE__LIMITS__LNIKS: unknown setting; did you mean links?",
        "TRUNKLINE_EXAMPLE__LIMIT__LINKS: matches no setting; the first part must be one of "
        "ADMIN, CA_FILE, EVENT_LOOP, LIMITS, LISTEN, LOG, PASSWORD, STATE_DIRECTORY",
        "example.toml: admin.address: must be a loopback address, 127.0.0.1 or ::1, since this endpoint asks nobody "
        "who they are",
        "example.toml: admin.port: should be less than or equal to 65535",
        "example.toml: ca_file: no such file: /does/not/exist",
        "example.toml: colour: unknown setting; known here: admin, ca_file, event_loop, limits, listen, log, "
        "password, state_directory",
        "example.toml: listen.port: must be an integer",
        "example.toml: listen.prot: unknown setting; did you mean port?",
        "example.toml: state_directory: required, and not set (in the file, or as TRUNKLINE_EXAMPLE__STATE_DIRECTORY)",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("state_directory = 1\n", "example.toml: state_directory: must be a path, as a string"),
        ('state_directory = "/s"\nlisten = 3\n', "example.toml: listen: must be a table"),
        ('state_directory = "/s"\n[limits]\nlinks = 0\n', "example.toml: limits.links: should be greater than 0"),
        ('state_directory = "/s"\n[limits]\nlinks = 1.0\n', "example.toml: limits.links: must be an integer"),
        ('state_directory = "/s"\n[limits]\ndoors = "x"\n', "example.toml: limits.doors: must be a list"),
        (
            'state_directory = "/s"\nevent_loop = "fast"\n',
            "example.toml: event_loop: should be 'auto', 'uvloop' or 'asyncio'",
        ),
    ],
)
def test_a_wrong_value_in_the_file(tmp_path, text, problem):
    assert problems(tmp_path, text) == [problem]


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("LISTEN__PORT", "x", "TRUNKLINE_EXAMPLE__LISTEN__PORT: must be an integer"),
        ("LISTEN__PORT__DEEP", "1", "TRUNKLINE_EXAMPLE__LISTEN__PORT__DEEP: must be an integer"),
        ("LISTEN", "{", "TRUNKLINE_EXAMPLE__LISTEN: must be a table"),
        ("LIMITS__DOORS", "a,b", "TRUNKLINE_EXAMPLE__LIMITS__DOORS: must be a list"),
        ("LOG__LEVEL", "loud", "TRUNKLINE_EXAMPLE__LOG__LEVEL: should be 'debug', 'info', 'warning' or 'error'"),
        ("CA_FILE", "/nowhere", "TRUNKLINE_EXAMPLE__CA_FILE: no such file: /nowhere"),
    ],
)
def test_a_wrong_value_in_the_environment(tmp_path, name, value, problem):
    assert problems(tmp_path, 'state_directory = "/s"\n', {f"{PREFIX}__{name}": value}) == [problem]


def test_a_missing_file_is_one_problem(tmp_path):
    path = tmp_path / "none.toml"
    with pytest.raises(SettingsError) as caught:
        load_settings(Example, path, {}, prefix=PREFIX)
    assert caught.value.problems == [f"{path}: no such file"]


@pytest.mark.parametrize("content", [b"state_directory = ", b"\xff\xfe", b"a = 1\na = 2\n"])
def test_what_is_not_toml_is_one_problem(tmp_path, content):
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        load_settings(Example, path, {}, prefix=PREFIX)
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith(f"{path}: not ")


def test_values_are_never_repeated(tmp_path):
    text = (
        'state_directory = "/s"\nevent_loop = "hunter2"\n[listen]\nport = "hunter2"\naddress = 1\nhunter = "hunter2"\n'
    )
    assert "hunter2" not in "\n".join(problems(tmp_path, text))
