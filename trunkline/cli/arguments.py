"""Arguments of several sub-commands, checked."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

import click

LARGEST_PORT = 65_535
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_LIMITS = {
    "memory": ("memory_bytes", True),
    "processes": ("processes", False),
    "cpu": ("cpu_percent", False),
    "open-files": ("open_files", False),
    "output": ("output_bytes", True),
}
YES = click.option("--yes", is_flag=True, help="Do not ask; nothing is asked where there is no terminal.")


def pairs_of(values: Sequence[str], option: str) -> dict[str, str]:
    """``K=V`` options as a mapping.

    Raises:
        click.BadParameter: one has no ``=`` or no key.
    """
    pairs: dict[str, str] = {}
    for value in values:
        key, separator, content = value.partition("=")
        if not separator or not key:
            raise click.BadParameter(f"{value!r} is not of the form K=V", param_hint=option)
        pairs[key] = content
    return pairs


def secrets_of(values: Sequence[str], option: str) -> dict[str, str]:
    """``NAME=SCOPE/KEY`` options as the secrets' references by the names that they are given under.

    Raises:
        click.BadParameter: one has another form.
    """
    references = pairs_of(values, option)
    for name, reference in references.items():
        scope, _, key = reference.partition("/")
        if not scope or not key:
            raise click.BadParameter(f"'{name}={reference}' is not of the form NAME=SCOPE/KEY", param_hint=option)
    return references


def limits_of(values: Sequence[str], option: str) -> dict[str, int]:
    """``NAME=N`` options as the limits of a command; sizes may end in K, M or G, powers of 1024.

    Raises:
        click.BadParameter: one has another name, or is not a number from 1 on.
    """
    limits: dict[str, int] = {}
    for name, text in pairs_of(values, option).items():
        limit, takes_size = _LIMITS.get(name, ("", False))
        match = re.fullmatch(r"([1-9][0-9]{0,17})([KMG]?)", text, re.ASCII)
        if not limit or match is None or (match[2] and not takes_size):
            forms = ", ".join(f"{known}={'SIZE' if size else 'N'}" for known, (_, size) in _LIMITS.items())
            raise click.BadParameter(f"{name}={text} is not one of {forms}", param_hint=option)
        limits[limit] = int(match[1]) * 1024 ** "_KMG".index(match[2] or "_")
    return limits


def seconds_of(text: str, option: str) -> int:
    """A duration as people write it, ``90s``, ``15m``, ``2h``, ``7d`` or ``1h30m``, in seconds.

    Raises:
        click.BadParameter: it is not of that form, or nothing.
    """
    parts = re.findall(r"(\d{1,9})([smhd])", text, re.ASCII)
    seconds = sum(int(number) * _UNIT_SECONDS[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or not seconds:
        raise click.BadParameter(f"{text!r} is not a duration such as 90s, 15m, 2h, 7d or 1h30m", param_hint=option)
    return seconds


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something is deleted, if there is somebody to ask.

    Raises:
        click.Abort: the answer is no.
    """
    if not yes and sys.stdin.isatty() and sys.stderr.isatty():
        click.confirm(question, abort=True, err=True)


def node_and_port(value: str) -> tuple[str, int]:
    """``NODE:PORT`` in its two parts.

    Raises:
        click.BadParameter: it is not of that form.
    """
    node, separator, port = value.rpartition(":")
    if not separator or not node or not port.isascii() or not port.isdigit() or not 0 < int(port) <= LARGEST_PORT:
        raise click.BadParameter(f"{value!r} is not of the form NODE:PORT", param_hint="NODE:PORT")
    return node, int(port)
