"""JSON as callers send it: read so that it has one meaning, and what is wrong with it said in one line."""

import json
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

MOST_PROBLEMS = 10


class DocumentRefused(ValueError):  # noqa: N818 - an expected refusal
    """The body is not JSON of one meaning; the message says why."""


def read_document(body: bytes) -> Any:
    """Return what a body of JSON says.

    Raises:
        DocumentRefused: it is not JSON, or an object in it has a name twice, of which readers take one or the other.
    """
    try:
        return json.loads(body, object_pairs_hook=_without_repeats, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, DocumentRefused) else "it is not JSON"
        raise DocumentRefused(f"the body cannot be read: {reason}") from None


def problems_of(error: ValidationError) -> str:
    """Return what a model has found wrong, in one line, without the values."""
    return "; ".join(map(_problem, error.errors(include_input=False, include_url=False)[:MOST_PROBLEMS]))


def _problem(problem: ErrorDetails) -> str:
    place = ".".join(map(str, problem["loc"])) or "body"
    if problem["type"] == "extra_forbidden":
        return f"{place}: unknown key"
    return f"{place}: {problem['msg'].removeprefix('Value error, ').removeprefix('Input ')}"


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise DocumentRefused("a name is in it twice")
    return document


def _no_constant(name: str) -> Any:
    raise DocumentRefused(f"{name} is not JSON")
