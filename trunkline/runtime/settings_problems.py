"""Validation errors of settings as lines that say where the problem is and what to do."""

import difflib
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

_MESSAGES = {
    "missing": "required, and not set",
    "int_type": "must be an integer",
    "int_parsing": "must be an integer",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be a string",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "path_type": "must be a path, as a string",
}


def explain(
    error: ValidationError,
    model: type[BaseModel],
    *,
    file_name: str | None,
    prefix: str | None,
    variables: frozenset[str] = frozenset(),
) -> Iterator[str]:
    """Yield one line for each thing that is wrong, led by the file's key or the variable that it came from.

    Values are never repeated: one of them may be a secret that got into the wrong place. Without a `prefix` nothing of
    the model can be set by the environment.
    """
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        location = [part for part in problem["loc"] if not str(part).startswith(("function-", "is-instance"))]
        variable = None if prefix is None else prefix + "__".join(str(part).upper() for part in location)
        from_environment = next((name for name in variables if variable and _covers(name, variable)), None)
        named = None if problem["type"] == "missing" and _required_at(model, location) else variable
        place = from_environment or _place_in_file(location, file_name) or named or ".".join(map(str, location))
        yield f"{place}: {_message(problem['type'], problem['msg'], model, location, variable)}"


def _covers(name: str, variable: str) -> bool:
    """Tell whether the variable `name` set the setting of `variable`, or a table that holds it, or a key in it."""
    return variable == name or variable.startswith(f"{name}__") or name.startswith(f"{variable}__")


def _place_in_file(location: list[int | str], file_name: str | None) -> str | None:
    if file_name is None:
        return None
    return f"{file_name}: {'.'.join(map(str, location))}" if location else file_name


def _message(kind: str, text: str, model: type[BaseModel], location: list[int | str], variable: str | None) -> str:
    if kind == "extra_forbidden":
        gone = getattr(_model_at(model, location[:-1]), "gone", {}).get(location[-1])
        return f"no longer a setting: {gone}" if gone else f"unknown setting{_suggestion(model, location)}"
    required = _required_at(model, location) if kind == "missing" else []
    if required:
        table = ".".join(map(str, location))
        names = "" if variable is None else f" (or {', '.join(f'{variable}__{key.upper()}' for key in required)})"
        return f"the table [{table}] is missing; it needs {', '.join(required)}{names}"
    if kind == "missing" and variable is not None:
        return f"{_MESSAGES[kind]} (in the file, or as {variable})"
    return _MESSAGES.get(kind) or text.removeprefix("Value error, ").removeprefix("Input ")


def _suggestion(model: type[BaseModel], location: list[int | str]) -> str:
    fields = _fields_at(model, location[:-1])
    close = difflib.get_close_matches(str(location[-1]), fields, n=1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known here: {', '.join(sorted(fields))}" if fields else ""


def _required_at(model: type[BaseModel], location: list[int | str]) -> list[str]:
    """Return the keys that a table must have; none if there is no table at the location."""
    fields = getattr(_model_at(model, location), "model_fields", {})
    return [name for name, field in fields.items() if field.is_required()]


def _fields_at(model: type[BaseModel], location: list[int | str]) -> list[str]:
    return list(getattr(_model_at(model, location), "model_fields", {}))


def _model_at(model: type[BaseModel], location: list[int | str]) -> Any:
    current: Any = model
    for part in location:
        field = getattr(current, "model_fields", {}).get(part)
        if field is None:
            return None
        candidates = (field.annotation, *get_args(field.annotation))
        current = next((kind for kind in candidates if hasattr(kind, "model_fields")), None)
    return current
