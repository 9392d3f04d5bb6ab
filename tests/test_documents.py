"""What docs/ says of settings, of metrics and of the command is so."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import click
import pytest
from pydantic import BaseModel

from control_plane.settings import ControlPlaneSettings
from node_agent.settings import AgentSettings
from relay.settings import RelaySettings
from trunkline.cli.main import cli

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CODE = "\n".join(
    path.read_text()
    for package in ("trunkline", "certs", "relay", "node_agent", "control_plane")
    for path in sorted((ROOT / package).rglob("*.py"))
)
SCALES = {"MiB": 2**20, "GiB": 2**30}

_DOTTED = re.compile(r"`([a-z_]+(?:\.[a-z_]+)+)`")
_DEFAULT = re.compile(r"`([a-z_]+(?:\.[a-z_]+)+)` \((\d[\d,.]*)(?: ([MG]iB))?")
_KEPT = re.compile(r'^(?:[A-Z]+_)*FILE = "([^"]+)"', re.MULTILINE)
_COMMAND = re.compile(r"(?:`|^|\| )trunkline ([a-z][^`\n]*)", re.MULTILINE)
_EXAMPLE = re.compile(r"^ .*?\btrunkline (.+)$", re.MULTILINE)
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
_DAEMONS = {"relay", "node-agent", "control-plane"}
_NO_COMMANDS = {"evidence nonce v1"}


def defaults(model: type[BaseModel], section: str = "") -> Iterator[tuple[str, Any]]:
    """The settings of a model and of its sections by `section.key`, with their defaults."""
    for name, field in model.model_fields.items():
        yield section + name, None if field.is_required() else field.get_default(call_default_factory=True)
        for part in (field.annotation, *get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from defaults(part, f"{section}{name}.")


SETTINGS = [item for model in (RelaySettings, AgentSettings, ControlPlaneSettings) for item in defaults(model)]
SECTIONS = {name.partition(".")[0] for name, _ in SETTINGS if "." in name}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_is_named_below_a_section_is_a_setting_or_what_the_code_says(page: Path) -> None:
    """Names of events in the log and the audit begin as sections do, as `trust.old` does."""
    names = {name for name in _DOTTED.findall(page.read_text()) if name.partition(".")[0] in SECTIONS}
    known = {name for name, _ in SETTINGS}
    assert [name for name in sorted(names - known) if f'"{name}' not in CODE] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_number_behind_a_setting_is_its_default(page: Path) -> None:
    for name, number, unit in _DEFAULT.findall(page.read_text()):
        said = float(number.replace(",", "").rstrip(".")) * SCALES.get(unit, 1)
        assert said in [default for setting, default in SETTINGS if setting == name], (name, said)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_metrics_that_are_named_are_in_the_list(page: Path) -> None:
    listed = re.findall(r"^\| `(trunkline_\w+)` \|", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE)
    assert set(re.findall(r"\btrunkline_[a-z_]+[a-z]\b(?!\*)", page.read_text())) - set(listed) == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_that_are_named_exist_with_their_options(page: Path) -> None:
    for line in set(_COMMAND.findall(page.read_text())) - _NO_COMMANDS:
        command = named(line)
        options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        if command.name not in _DAEMONS:  # these parse their own
            own = re.split(r" -- |#| \| |  ", line)[0]
            assert set(_OPTION.findall(own)) - options - {"--help"} == set(), line


def test_examples_of_commands_are_commands_with_their_options() -> None:
    found = [line for text in helps(cli, click.Context(cli)) for line in _EXAMPLE.findall(text)]
    assert len(found) > 20
    for line in found:
        options = {option for parameter in named(line).params for option in parameter.opts}
        assert set(_OPTION.findall(line.split(" -- ")[0])) <= options, line


def helps(command: click.Command, context: click.Context) -> Iterator[str]:
    """What a command, and each below it, says at the end of its help."""
    yield command.epilog or ""
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from helps(inner, context)


def named(line: str) -> click.Command:
    """The command whose names a line begins with, the first of `a|b` or `(a|b)`; what follows are arguments."""
    context = click.Context(cli)
    command: click.Command = cli
    for words in line.split():
        word = words.lstrip("(").partition("|")[0]
        if not isinstance(command, click.Group) or not re.fullmatch(r"[a-z-]+", word) or word.startswith("-"):
            break
        found = command.get_command(context, word)
        assert found is not None, line
        command = found
    return command


@pytest.mark.parametrize(("daemon", "heading"), [("relay", "## Relay"), ("node_agent", "## Node agent")])
def test_files_of_a_state_directory_are_told(daemon: str, heading: str) -> None:
    """Those of a command have a directory of their own, which the page names in one row."""
    code = [
        path for path in sorted((ROOT / daemon).rglob("*.py")) if path.parent.name not in ("commands", "supervisor")
    ]
    kept = {name for path in code for name in _KEPT.findall(path.read_text())}
    section = (ROOT / "docs" / "operations.md").read_text().partition(f"\n{heading}\n")[2].partition("\n## ")[0]
    rows = "\n".join(line for line in section.splitlines() if line.startswith("| `"))
    assert len(kept) > 5
    assert [name for name in sorted(kept) if f"`{name}`" not in rows] == []
