"""What the compiled build asks of the code, looked up in the Python files: see docs/adr/0005-compiled-data-path.md."""

import ast
import importlib
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
HOOKS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]
COMPILED = {ROOT / name for name in HOOKS["mypyc"]["include"]}
PACKAGES = ("trunkline", "certs", "relay", "node_agent", "control_plane")


def _module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def _classes() -> Iterator[tuple[Path, ast.ClassDef]]:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef):
                    yield path, node


def test_the_modules_that_are_compiled_exist() -> None:
    assert [path for path in COMPILED if not path.is_file()] == []


def test_no_class_derives_from_one_on_the_other_side() -> None:
    """A class that is interpreted cannot be made if it derives from a compiled one; exceptions can."""
    wrong = []
    for path, node in _classes():
        if path in COMPILED or any(isinstance(base, ast.Name) and base.id == "Protocol" for base in node.bases):
            continue
        found = getattr(importlib.import_module(_module(path)), node.name, None)
        for base in found.__mro__[1:] if found is not None else ():
            origin = ROOT / (base.__module__.replace(".", "/") + ".py")
            if origin in COMPILED and not issubclass(base, Exception):
                wrong.append(f"{path.relative_to(ROOT)}: {node.name} derives from {base.__name__}")
    assert wrong == []
