"""Rules of the house that no linter knows."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from control_plane.settings import ControlPlaneSettings
from node_agent.settings import AgentSettings
from relay.settings import RelaySettings

ROOT = Path(__file__).parent.parent
PACKAGES = ("trunkline", "certs", "relay", "node_agent", "control_plane")


def sources(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def nodes_where(*words: str) -> Iterator[tuple[Path, ast.AST]]:
    """The syntax of all files, tests as well, whose text has one of these words: parsing every file takes seconds."""
    for path in sources(*PACKAGES, "tests", "bench"):
        text = path.read_text()
        if any(word in text for word in words):
            for node in ast.walk(ast.parse(text)):
                yield path, node


def test_tls_contexts_are_made_in_one_place() -> None:
    makers = {"SSLContext", "TlsContext", "create_default_context", "_create_unverified_context"}
    found = {
        path.relative_to(ROOT).as_posix()
        for path, node in nodes_where(*makers)
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in makers
    }
    assert found == {"certs/tls_policy.py"}


def test_verification_is_never_switched_off() -> None:
    switches = {("check_hostname", False), ("verify_ssl", False), ("ssl", False)}
    offenders = []
    for path, node in nodes_where("CERT_NONE", *(f"{name}=" for name, _ in switches)):
        if isinstance(node, ast.keyword) and isinstance(node.value, ast.Constant):
            switched = (node.arg, node.value.value) in switches
        else:
            # The one place that makes TLS contexts serves, too, callers that have no certificate.
            switched = isinstance(node, ast.Attribute) and node.attr == "CERT_NONE" and "certs" not in path.parts
        if switched:
            offenders.append(str(path.relative_to(ROOT)))
    assert offenders == []


@pytest.mark.parametrize("package", PACKAGES)
def test_package_files_are_docstrings_only(package: str) -> None:
    for path in sorted((ROOT / package).rglob("__init__.py")):
        if path == ROOT / "trunkline" / "__init__.py":
            continue
        body = ast.parse(path.read_text()).body
        assert len(body) == 1, f"{path} holds more than a docstring"
        assert isinstance(body[0], ast.Expr), f"{path} holds no docstring"


def keys(model: type[BaseModel]) -> Iterator[str]:
    """The names of all settings of a model, and of its sections."""
    for name, field in model.model_fields.items():
        yield name
        for part in (field.annotation, *get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from keys(part)


@pytest.mark.parametrize("settings", [RelaySettings, AgentSettings, ControlPlaneSettings])
def test_no_setting_is_taken_and_means_nothing(settings: type[BaseModel]) -> None:
    read = {name for path in sources(*PACKAGES) for name in re.findall(r"\.([a-z]\w+)", path.read_text())}
    assert set(keys(settings)) - read == set()


def test_the_architecture_names_each_module_of_the_relay_once() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    tables = text.partition("module by module of `relay/`")[2].partition("**Workers**")[0]
    named, room = [], ""
    for title, rooms, modules in re.findall(r"^\| (?:(room)|(`\w+/`)?) ?\| ([^|]+)\|", tables, re.MULTILINE):
        room = "" if title else rooms.strip("`") or room
        named += [f"{room}{name}.py" for name in re.findall(r"`(\w+)`", modules)]
    held = [path.relative_to(ROOT / "relay") for path in sources("relay") if path.stem != "__init__"]
    assert sorted(named) == sorted(path.as_posix() for path in held if path.parts[0] != "workers")


def test_a_machine_that_runs_an_agent_needs_no_database_layer() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = " ".join([*project["dependencies"], *project["optional-dependencies"]["agent"]])
    assert "sqlalchemy" not in needed.lower()
    locked = (ROOT / "requirements" / "agent.lock").read_text().lower()
    assert "sqlalchemy" not in locked
    assert "alembic" not in locked
