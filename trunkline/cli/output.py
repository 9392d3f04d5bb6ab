"""How results are printed: as a table for people, or as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from trunkline.cli.exits import printable
from trunkline.client.records.record import Record

_HEADINGS = {
    "creation_time": "created",
    "submit_time": "submitted",
    "last_seen_time": "last seen",
    "expire_time": "expires",
    "updated_at": "updated",
    "last_updated_timestamp": "updated",
}
_MOMENTS = frozenset(
    {"time", "deliver_before", "since", "resolves_by", "created_at", "updated_at", "last_updated_timestamp"}
)


def print_records(name: str, records: Sequence[Record], columns: Sequence[str], output: str) -> None:
    """Print a list: the columns given as a table, or every field as JSON, under `name` as the API has it."""
    if output == "json":
        _print_json({name: [record.model_dump(mode="json", exclude_none=True) for record in records]})
        return
    from trunkline.cli.tables import print_rows

    headings = [_HEADINGS.get(column, column.replace("_", " ")).upper() for column in columns]
    print_rows(headings, ([_text(column, getattr(record, column, None)) for column in columns] for record in records))


def print_record(record: Record, output: str) -> None:
    """Print one result: a line for each field, or a JSON object."""
    document = record.model_dump(mode="json", exclude_none=True)
    if output == "json":
        _print_json(document)
        return
    _print_fields(document.items())


def print_tree(record: Record, output: str) -> None:
    """Print one result that has parts within parts: a line for each end of it under `outer.inner`, or a JSON object."""
    document = record.model_dump(mode="json", exclude_none=True)
    if output == "json":
        _print_json(document)
        return
    _print_fields(_flat(document))


def print_line(record: Record, columns: Sequence[str], output: str) -> None:
    """Print one of many results as it comes: the columns given in one line, or every field as one line of JSON."""
    if output == "json":
        click.echo(json.dumps(record.model_dump(mode="json", exclude_none=True), separators=(",", ":")))
        return
    click.echo("  ".join(_text(column, getattr(record, column, None)) for column in columns))


def print_done(line: str, output: str, **answered: int) -> None:
    """Say that something was done; JSON's reader gets an object with what was answered, if anything."""
    click.echo(json.dumps(answered) if output == "json" else line)


def _print_json(document: Any) -> None:
    click.echo(json.dumps(document, indent=2))


def _print_fields(fields: Iterable[tuple[str, Any]]) -> None:
    from trunkline.cli.tables import print_fields

    print_fields((printable(name), _text(name, value)) for name, value in fields)


def _text(column: str, value: Any) -> str:
    if value is None or value == "":
        return "-"
    name = column.rpartition(".")[2]
    if (name in _MOMENTS or name.endswith("_time")) and isinstance(value, int):
        return moment(value) if value else "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return printable(", ".join(f"{key}={_text(key, entry)}" for key, entry in _flat(value))) or "-"
    if isinstance(value, list | tuple):
        return printable(" ".join(_text("", entry) for entry in value)) or "-"
    return printable(str(value))


def say(line: str) -> None:
    """Print a line, in which what others have named cannot steer the terminal."""
    click.echo(printable(line))


def moment(milliseconds: int) -> str:
    """A time of an answer as people read it, UTC."""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError, OSError):  # what a node says may be no time at all
        return str(milliseconds)


def _flat(document: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The entries of a document, those of documents in it under `outer.inner`."""
    for key, value in document.items():
        if isinstance(value, dict):
            yield from ((f"{key}.{inner}", entry) for inner, entry in _flat(value))
        else:
            yield key, value
