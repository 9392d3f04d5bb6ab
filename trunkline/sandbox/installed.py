"""Whether what a sandbox runs is installed: the command itself needs less than the daemons."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Sequence
from typing import Final

_OF_A_DAEMON: Final = re.compile(r"([A-Za-z0-9._-]+).*;.*\bextra == ['\"](?:agent|control-plane|relay)['\"]")


def missing_package(requirements: Sequence[str] | None = None) -> str | None:
    """Return the first package that a daemon needs and that is not installed; None if there is none such.

    `requirements` are those of this release's metadata, unless they are given.
    """
    for requirement in _requirements() if requirements is None else requirements:
        found = _OF_A_DAEMON.match(requirement)
        if found is not None and not _is_installed(found[1]):
            return found[1]
    return None


def _requirements() -> Sequence[str]:
    try:
        return importlib.metadata.requires("trunkline") or ()
    except importlib.metadata.PackageNotFoundError:  # of a source tree nothing is known
        return ()


def _is_installed(package: str) -> bool:
    try:
        importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
