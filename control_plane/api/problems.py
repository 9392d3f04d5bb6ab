"""What is wrong with a request, as its sender reads it: the field, and in plain words what it must be.

None of it repeats a value, since a value may be a secret.
"""

import re
from collections.abc import Iterable

from pydantic import ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import ErrorDetails

_SUBJECT = re.compile(r"^(Input|Value|String|List|Dictionary) should ")
_CHOICE = re.compile(r"match pattern '\^\((\w+(?:\|\w+)*)\)\$'")
_BESIDE = re.compile(r"( after validation, not (more|\d+)|, unable to .*)$")
_WORDS = (
    ("be greater than or equal to ", "be at least "),
    ("be less than or equal to ", "be at most "),
    ("be greater than ", "be more than "),
    ("match pattern ", "match the pattern "),
)


def told_as(problem: str) -> WrapValidator:
    """Tell what a value must be in one sentence, where each of the forms that it may have would have one of its own."""

    def check(value: object, handler: ValidatorFunctionWrapHandler) -> object:
        try:
            return handler(value)
        except ValidationError:
            raise ValueError(problem) from None

    return WrapValidator(check)


def told(problem: ErrorDetails) -> dict[str, str]:
    """Return a problem that a model has found as an answer has it: its `field`, and what the `problem` is."""
    return {"field": _path(problem["loc"]), "problem": _problem(problem)}


def _path(location: Iterable[int | str]) -> str:
    return ".".join(str(part)[:128] for part in location) or "body"


def _problem(problem: ErrorDetails) -> str:
    if problem["type"] == "extra_forbidden":
        return "unknown key"
    if problem["type"] == "missing":
        return "is missing"
    message = str(problem["msg"]).removeprefix("Value error, ")
    return _plain(message) if _SUBJECT.match(message) else message


def _plain(message: str) -> str:
    """Say of the field itself what a model says of its input, a list or a dictionary."""
    if message.startswith("Value should have"):  # only of strings: of all else it names the kind
        message = message.replace(" items", " characters")
    text = _CHOICE.sub(lambda found: "be one of " + found[1].replace("|", ", "), _SUBJECT.sub("", message))
    text = _BESIDE.sub("", text)
    for theirs, ours in _WORDS:
        text = text.replace(theirs, ours, 1)
    return f"must {text}"
