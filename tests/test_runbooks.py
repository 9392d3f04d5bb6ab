"""Every runbook of docs/operations.md is executed by a test in tests/e2e, command for command."""

import ast
import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import pytest

ROOT = Path(__file__).parents[1]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()

EXECUTED = {
    "expired fleet": ["test_renewal.py::test_the_runbook_of_an_expired_fleet"],
    "restore from a backup": [
        "test_restore.py",
        "test_trust_runbooks.py::test_restoring_the_control_plane_from_a_backup",
    ],
    "a compromised node": ["test_trust_runbooks.py::test_a_compromised_node"],
    "rotate the authority": ["test_rotation.py"],
    "rotate the signing key": ["test_rotation.py::test_runbook_rotate"],
    "a compromised signing key": ["test_rotation.py"],
}
"""By the runbook's title, what executes it: a module of tests/e2e, or one test in it."""

NOT_EXECUTED = {
    "expired fleet": {"token join"},  # where the window is over, the node begins anew: as every first start
    "restore from a backup": {"signing-key revoke"},
    "a compromised node": {"relays delete", "revoke certificate"},  # of relays: tests/e2e/test_several_relays.py
}
"""Commands that a runbook names for another case than its own."""

KINDS = ("ca", "signing-key")
"""What the variable `kind` of the tests of rotation stands for."""

Node = TypeVar("Node", bound=ast.AST)

_HEADING = re.compile(r"^#+ Runbook: (?P<title>.+)$", re.MULTILINE)
_COMMAND = re.compile(r"`trunkline (?P<words>[a-z-]+ [a-z][a-z-]*)")


def runbooks() -> dict[str, str]:
    """The runbooks' texts by their titles."""
    found = {}
    for match in _HEADING.finditer(OPERATIONS):
        rest = OPERATIONS[match.end() :]
        end = re.search(r"^#+ ", rest, re.MULTILINE)
        found[match["title"]] = rest[: end.start()] if end else rest
    return found


def commands_of(text: str) -> set[str]:
    """The commands that a text names, without their arguments."""
    return {match["words"] for match in _COMMAND.finditer(text)}


def executed_by(where: str) -> set[str]:
    """The pairs of words that stand next to each other in the calls of a test, or of a module with what it defines."""
    module, _, function = where.partition("::")
    tree = ast.parse((ROOT / "tests" / "e2e" / module).read_text())
    nodes = [node for node in tree.body if not function or getattr(node, "name", "") == function]
    assert nodes, where
    looped = [word for loop in _of(nodes, ast.For) for word in _texts(ast.walk(loop.iter))]
    return {words for call in _of(nodes, ast.Call) for words in _pairs(call, looped)}


def _of(nodes: list[ast.stmt], kind: type[Node]) -> list[Node]:
    return [inner for node in nodes for inner in ast.walk(node) if isinstance(inner, kind)]


def _texts(nodes: Iterable[ast.AST]) -> list[str]:
    return [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def _pairs(call: ast.Call, looped: list[str]) -> Iterator[str]:
    """What stands next to each other in a call; a variable may be each of the words that the test loops over."""
    texts = _texts(call.args)
    yield from (" ".join(pair) for pair in pairwise(texts))
    if len(call.args) > 1 and texts and isinstance(call.args[0], ast.Name):
        yield from (f"{kind} {texts[0]}" for kind in KINDS)
    if len(call.args) > 1 and texts and isinstance(call.args[1], ast.Name):
        yield from (f"{texts[0]} {word}" for word in looped)


def test_every_runbook_is_executed():
    assert set(runbooks()) == set(EXECUTED)


@pytest.mark.parametrize("title", EXECUTED)
def test_what_a_runbook_says_is_what_its_test_does(title: str):
    said = commands_of(runbooks()[title]) - NOT_EXECUTED.get(title, set())
    done = {words for where in EXECUTED[title] for words in executed_by(where)}
    assert said - done == set(), done
