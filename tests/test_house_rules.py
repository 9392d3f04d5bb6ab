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


def calls(path: Path) -> Iterator[tuple[int, str]]:
    """The dotted names of everything that a file calls."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield node.lineno, ast.unparse(node.func)


def test_tls_contexts_are_made_in_one_place() -> None:
    makers = {"ssl.SSLContext", "SSLContext", "ssl.create_default_context", "ssl._create_unverified_context"}
    found = {
        path.relative_to(ROOT).as_posix()
        for path in sources(*PACKAGES, "tests", "bench")
        for _, name in calls(path)
        if name in makers
    }
    assert {name for name in found if not name.startswith("certs/")} == set()


def test_verification_is_never_switched_off() -> None:
    switches = {("check_hostname", False), ("verify_ssl", False), ("ssl", False)}
    offenders = []
    for path in sources(*PACKAGES, "tests", "bench"):
        for node in ast.walk(ast.parse(path.read_text())):
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


def test_a_machine_that_runs_an_agent_needs_no_database_layer() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = " ".join([*project["dependencies"], *project["optional-dependencies"]["agent"]])
    assert "sqlalchemy" not in needed.lower()
    locked = (ROOT / "requirements" / "agent.lock").read_text().lower()
    assert "sqlalchemy" not in locked
    assert "alembic" not in locked
