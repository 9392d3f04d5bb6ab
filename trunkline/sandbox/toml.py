"""Writing TOML: tables of text, numbers, booleans and lists of text, which is all that our settings hold."""

from __future__ import annotations

import json
from collections.abc import Mapping

Value = str | int | float | bool | list[str]
Table = Mapping[str, "Value | Table"]


def render_toml(table: Table, heading: str) -> str:
    """A TOML document; entries that are None have no place in it and must be left out.

    Args:
        table: keys with values, and tables, as deep as need be.
        heading: a comment for its first line.
    """
    return f"# {heading}\n" + "\n".join(_lines(table, "")) + "\n"


def _lines(table: Mapping[str, object], path: str) -> list[str]:
    values = [f"{key} = {_value(value)}" for key, value in table.items() if not isinstance(value, Mapping)]
    lines = ["", f"[{path}]", *values] if path and values else values
    for key, value in table.items():
        if isinstance(value, Mapping):
            lines += _lines(value, f"{path}.{key}" if path else key)
    return lines


def _value(value: object) -> str:
    """JSON's strings, numbers, booleans and lists are TOML's too, but for DEL, which TOML wants escaped."""
    return json.dumps(value, ensure_ascii=True).replace("\x7f", "\\u007f")
