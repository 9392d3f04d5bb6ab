"""Reading requests: bodies and queries into strict models, with a bound on their size and on their time.

Operators' requests (`OperatorRequest`) take no key they do not know; machines' (`MachineRequest`) ignore such keys, and
take words (`Word`) that are not known here, so that an agent of another release is understood. In both, every problem
is found at once, and none repeats a value, since a value may be a secret.
"""

import asyncio
import contextlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar, get_origin

from aiohttp import web
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
)

from control_plane.api.problems import told
from control_plane.errors import ApiError, ErrorCode, invalid
from control_plane.names import checked_name
from control_plane.storage.text import unstorable

LARGEST_BODY_BYTES = 1024 * 1024
BODY_SECONDS = 20.0
MOST_PROBLEMS = 50

M = TypeVar("M", bound=BaseModel)


def _storable(value: Any) -> Any:
    """Refuse, wherever it is in a field, text that no database takes."""
    if isinstance(value, str):
        if (problem := unstorable(value)) is not None:
            raise ValueError(problem)
    elif isinstance(value, Mapping):
        for item in value.items():
            _storable(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _storable(item)
    return value


def _or_none(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    try:
        return read(value)
    except ValidationError:
        return None


Name = Annotated[str, AfterValidator(checked_name)]
Text = Annotated[str, AfterValidator(_storable)]
Word = Annotated[str, StringConstraints(pattern="^[A-Za-z][A-Za-z0-9_]{0,31}$")]
"""One word of several in a machine document: another release has others, so that any is taken as long as it is one."""
Understood = Annotated[M | None, WrapValidator(_or_none)]
"""An element of a machine document, None where it has a form that is not known here: so it costs no others."""


class _Request(BaseModel):
    """What all requests have in common: each of their fields is text that can be stored, or holds none."""

    _every_text = field_validator("*")(_storable)


class OperatorRequest(_Request):
    """The base of what operators send."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class MachineRequest(_Request):
    """The base of what agents and relays send."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


class Query(_Request):
    """The base of query strings: text becomes numbers, unknown parameters are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class MachineQuery(_Request):
    """The base of query strings of agents and relays: as `Query`, but unknown parameters are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class NoQuery(Query):
    """A query without parameters."""


class Nothing(OperatorRequest):
    """An empty body, `{}` or none at all."""


async def read_body(request: web.Request, model: type[M], *, largest_bytes: int = LARGEST_BODY_BYTES) -> M:
    """Read the JSON body of a request into a model.

    Raises:
        ApiError: it is too large, too slow, no JSON, has a name twice in one object, or is not what the model says.
    """
    raw = await _read(request, largest_bytes)
    if raw:
        _refuse_other_types(request)
    _refuse_repeats(raw)
    try:
        return model.model_validate_json(raw or b"{}")
    except ValidationError as error:
        raise _refusal(error) from None


async def refuse_body(request: web.Request) -> None:
    """Refuse the body of a request that has none, such as filters that belong into the query of a list.

    Raises:
        ApiError: there is one that says something.
    """
    if request.body_exists and (await _read(request, LARGEST_BODY_BYTES)).strip() not in (b"", b"{}"):
        problem = f"a {request.method} has no body here: what it asks for is in its path and query"
        raise ApiError(ErrorCode.MALFORMED_REQUEST, problem)


def _refuse_other_types(request: web.Request) -> None:
    if request.content_type not in ("application/json", "application/octet-stream"):
        raise ApiError(ErrorCode.MALFORMED_REQUEST, "the body must be JSON: send Content-Type: application/json")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise ApiError(ErrorCode.MALFORMED_REQUEST, "the body must not be compressed: send no Content-Encoding")


def _refuse_repeats(raw: bytes) -> None:
    """Refuse an object with one name twice: readers differ in which of the two they take (RFC 8259 section 4)."""
    with contextlib.suppress(ValueError, RecursionError):  # what is no JSON is for the model to refuse
        json.loads(raw, object_pairs_hook=_without_repeats)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) < len(pairs):
        raise ApiError(ErrorCode.MALFORMED_REQUEST, "an object in the body has a name twice")
    return names


async def _read(request: web.Request, largest_bytes: int) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while chunk := await request.content.readany():
                body += chunk
                if len(body) > largest_bytes:
                    raise ApiError(ErrorCode.REQUEST_TOO_LARGE, f"the body may have at most {largest_bytes} bytes")
    except TimeoutError:
        raise ApiError(ErrorCode.REQUEST_TIMEOUT, f"the body did not arrive in {BODY_SECONDS:.0f} s") from None
    except (web.RequestPayloadError, ValueError):
        raise ApiError(ErrorCode.MALFORMED_REQUEST, "the body ended early or its framing is broken") from None
    return bytes(body)


def read_query(request: web.Request, model: type[M]) -> M:
    """Read the query string of a request into a model; only fields that are lists may repeat.

    Raises:
        ApiError: an unknown, repeated or wrong parameter.
    """
    listed = {name for name, field in model.model_fields.items() if get_origin(field.annotation) is list}
    values: dict[str, Any] = {}
    for name in request.query:
        found = request.query.getall(name)
        if name not in listed and len(found) > 1:
            raise invalid(name[:128], "given more than once")
        values[name] = list(found) if name in listed else found[0]
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _refusal(error) from None


def _refusal(error: ValidationError) -> ApiError:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    if found[0]["type"] == "json_invalid":
        return ApiError(ErrorCode.MALFORMED_REQUEST, "the body is not valid JSON")
    problems = [told(problem) for problem in found[:MOST_PROBLEMS]]
    first, others = problems[0], len(found) - 1
    more = f" (and {others} more problem{'s' if others > 1 else ''})" if others else ""
    message = f"{first['field']}: {first['problem']}{more}"
    return ApiError(ErrorCode.INVALID_PARAMETER_VALUE, message, details=problems)
