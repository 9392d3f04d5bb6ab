"""`/v1/commands`: submit, list, get, read output, cancel."""

import asyncio
import re
from collections.abc import Sequence

from aiohttp import web

from certs.bindings import COMMAND_ID
from node_agent.api.admissions import Admissions
from node_agent.api.bodies import read_body
from node_agent.api.routing import ApiRefused, caller_of, error_response, json_response
from node_agent.commands.command import Command
from node_agent.commands.errors import CommandRefused
from node_agent.commands.ledger import CommandLedger
from node_agent.commands.parameter_paths import ParameterPaths
from node_agent.commands.records import OutputStream
from node_agent.commands.spool import Spool
from node_agent.commands.states import CommandState
from node_agent.commands.submission import parse_submission
from node_agent.commands.submitter import Submitter
from node_agent.exchanges.callers import Caller
from node_agent.init_scripts.readiness import Readiness
from node_agent.init_scripts.script_command import OWN_COMMAND_ID

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000
MAX_PAGE_CHARACTERS = 512 * 1024
MAX_OFFSET_DIGITS = 18
LIST_KEYS = ("state", "page_size", "page_token")
GET_KEYS = ("wait_seconds", "seen")
MAX_WAIT_SECONDS = 30
OUTPUT_KEYS = ("stream", "offset", "tail", "follow")
CANCEL_BODY = b"{}"
"""The content of a cancel that a token can be bound to; no submission, which names a program at least."""

_PAGE_TOKEN = re.compile(r"([0-9]{1,18})-([A-Za-z0-9][A-Za-z0-9._-]{0,127})")


class CommandsApi:
    """Answers for the commands of the node."""

    def __init__(
        self,
        ledger: CommandLedger,
        paths: ParameterPaths,
        admissions: Admissions,
        readiness: Readiness,
        *,
        stall_seconds: float,
    ) -> None:
        self._ledger = ledger
        self._admissions = admissions
        self._paths = paths
        self._readiness = readiness
        self._stall_seconds = stall_seconds

    async def submit(self, request: web.Request) -> web.StreamResponse:
        """Answer `PUT /v1/commands/{command_id}`: 201 for a new command, 200 for one that is known."""
        command_id = command_id_of(request)
        check_command(caller_of(request), command_id)
        _check_own(command_id)
        body = await read_body(request)
        submitter, submission = _submitter(caller_of(request), body), parse_submission(body)
        if not self._ledger.knows(command_id):
            self._readiness.require()
        try:
            paths = await self._paths.followed(submission)
            command, created = await self._ledger.submit(command_id, submission, submitter, paths)
        except CommandRefused as error:
            self._admissions.refused(error.refusal, body)
            raise
        self._admissions.taken(new=created)
        return json_response(command.document(), 201 if created else 200)

    async def list(self, request: web.Request) -> web.StreamResponse:
        """Answer `GET /v1/commands`, the newest first."""
        refuse_bound(caller_of(request))
        state, size, after = _list_query(request)
        commands = sorted(self._ledger, key=_list_key, reverse=True)
        if state is not None:
            commands = [command for command in commands if command.state is state]
        if after is not None:
            commands = [command for command in commands if _list_key(command) < after]
        page = _page(commands, size)
        document: dict[str, object] = {"commands": [command.document() for command in page]}
        if len(commands) > len(page):
            document["next_page_token"] = "{}-{}".format(*_list_key(page[-1]))
        return json_response(document)

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Answer `GET /v1/commands/{command_id}`: at once, or once its revision is another than the one seen."""
        refuse_bound(caller_of(request))
        command = self._ledger.get(command_id_of(request))
        wait_seconds, seen = _wait_query(request)
        if wait_seconds:
            await command.changed_since(seen, timeout_seconds=wait_seconds)
        return json_response(command.document())

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        """Answer `POST /v1/commands/{command_id}/cancel`."""
        caller, command_id = caller_of(request), command_id_of(request)
        await _check_cancel(caller, command_id, request)
        command = await self._ledger.cancel(command_id, caller.subject)
        return json_response(command.document())

    async def output(self, request: web.Request) -> web.StreamResponse:
        """Answer `GET /v1/commands/{command_id}/output`: bytes from an offset, until now or until the end."""
        refuse_bound(caller_of(request))
        command = self._ledger.get(command_id_of(request))
        stream, follow = _output_query(request)
        if command.record.output_removed:
            raise ApiRefused(410, "RESOURCE_DOES_NOT_EXIST", "the command's output has been deleted to save space")
        spool = command.spool(stream, self._ledger.store)
        size = spool.size_bytes
        offset = _offset(request, size)
        if offset > size:
            message = f"offset {offset} is beyond the end, which is at {size}"
            return error_response(416, "INVALID_PARAMETER_VALUE", message, {"Trunkline-Size": str(size)})
        response = web.StreamResponse(
            headers={
                "Content-Type": "application/octet-stream",
                "Trunkline-Size": str(size),
                "Trunkline-Offset": str(offset),
                "X-Content-Type-Options": "nosniff",
                "Cache-Control": "no-store",
            }
        )
        if not follow:
            response.content_length = size - offset
        await response.prepare(request)
        try:
            await self._send(response, spool, offset, follow=follow, empty=size == offset and not follow)
        except TimeoutError:  # the caller does not read; a part must not look like the whole
            if request.transport is not None:
                request.transport.abort()
            return response
        await response.write_eof()
        return response

    async def _send(
        self, response: web.StreamResponse, spool: Spool, offset: int, *, follow: bool, empty: bool
    ) -> None:
        if empty or (spool.finished and spool.size_bytes == offset):
            return
        with spool.reader() as reader:
            async for chunk in reader.chunks(offset, follow=follow):
                async with asyncio.timeout(self._stall_seconds):
                    await response.write(chunk)


def command_id_of(request: web.Request) -> str:
    """Return the command id that the path names.

    Raises:
        ApiRefused: it is none.
    """
    command_id = request.match_info["command_id"]
    if not COMMAND_ID.fullmatch(command_id):
        raise ApiRefused(400, "INVALID_PARAMETER_VALUE", "a command id is 1 to 128 of A-Z a-z 0-9 . _ -")
    return command_id


def _check_own(command_id: str) -> None:
    """Refuse an id under which an init script could be taken for one that has run."""
    if OWN_COMMAND_ID.fullmatch(command_id):
        raise ApiRefused(400, "INVALID_PARAMETER_VALUE", "command ids of this form are those of init scripts")


def check_command(caller: Caller, command_id: str) -> None:
    """Refuse a token that is bound to another command; before any content is read.

    Raises:
        ApiRefused: the token is.
    """
    binding = caller.claims.binding
    if binding is not None and binding.command_id not in (None, command_id):
        raise ApiRefused(403, "PERMISSION_DENIED", "the token is bound to another command")


def _submitter(caller: Caller, body: bytes) -> Submitter:
    """Return who submits; a token that is bound to a body must be bound to this one, and is used up by it."""
    claims, binding = caller.claims, caller.claims.binding
    if binding is None:
        return Submitter(claims.subject)
    if not binding.covers(body):
        raise ApiRefused(403, "PERMISSION_DENIED", "the token is bound to another body")
    replayable_until = max(claims.expires_at, binding.submit_until or 0) + _LEEWAY_SECONDS
    return Submitter(claims.subject, claims.token_id, replayable_until, bound=binding.command_id is not None)


_LEEWAY_SECONDS = 120  # beyond the leeway that the verifier grants, after which the token is refused anyway


async def _check_cancel(caller: Caller, command_id: str, request: web.Request) -> None:
    """Refuse a bound token that is not one for this cancel: what is bound to a submission is not."""
    binding = caller.claims.binding
    if binding is None:
        return
    if binding.command_id is None or not binding.covers(CANCEL_BODY):
        raise _bound_to_submit()
    check_command(caller, command_id)
    if await read_body(request) != CANCEL_BODY:
        raise ApiRefused(403, "PERMISSION_DENIED", "the token is bound to another body")


def refuse_bound(caller: Caller) -> None:
    """Refuse a token that is good for one request only.

    Raises:
        ApiRefused: it is.
    """
    if caller.claims.binding is not None:
        raise _bound_to_submit()


def _bound_to_submit() -> ApiRefused:
    return ApiRefused(403, "PERMISSION_DENIED", "the token is bound to the submit of one body")


def _page(commands: Sequence[Command], size: int) -> Sequence[Command]:
    """Return as many of the first as a page has, fewer where their arguments are long, but at least one."""
    shown = 0
    for count, command in enumerate(commands[:size]):
        shown += command.shown_characters
        if count and shown > MAX_PAGE_CHARACTERS:
            return commands[:count]
    return commands[:size]


def _list_key(command: Command) -> tuple[int, str]:
    return command.record.submit_time, command.command_id


def _list_query(request: web.Request) -> tuple[CommandState | None, int, tuple[int, str] | None]:
    query = request.query
    size = number_in(query.get("page_size", str(DEFAULT_PAGE_SIZE)), "page_size")
    if not 1 <= size <= MAX_PAGE_SIZE:
        raise ApiRefused(400, "INVALID_PARAMETER_VALUE", f"page_size is 1 to {MAX_PAGE_SIZE}")
    after = None
    if "page_token" in query:
        matched = _PAGE_TOKEN.fullmatch(query["page_token"])
        if matched is None:
            raise ApiRefused(400, "INVALID_PARAMETER_VALUE", "page_token is not one that was given out")
        after = int(matched[1]), matched[2]
    try:
        state = CommandState(query["state"]) if "state" in query else None
    except ValueError:
        raise ApiRefused(400, "INVALID_PARAMETER_VALUE", "state is not a state of commands") from None
    return state, size, after


def _wait_query(request: web.Request) -> tuple[int, int]:
    """Return for how many seconds the caller waits for another revision than which."""
    query = request.query
    if ("wait_seconds" in query) != ("seen" in query):
        raise ApiRefused(400, "INVALID_PARAMETER_VALUE", "wait_seconds and seen are given together or not at all")
    wait_seconds = number_in(query.get("wait_seconds", "0"), "wait_seconds")
    if wait_seconds > MAX_WAIT_SECONDS:
        raise ApiRefused(400, "INVALID_PARAMETER_VALUE", f"wait_seconds is at most {MAX_WAIT_SECONDS}")
    return wait_seconds, number_in(query.get("seen", "0"), "seen")


def _offset(request: web.Request, size: int) -> int:
    """Return where to begin: at `offset`, or `tail` bytes before what is the end now."""
    query = request.query
    if "tail" in query and "offset" in query:
        raise ApiRefused(400, "INVALID_PARAMETER_VALUE", "offset and tail exclude each other")
    return (
        max(0, size - number_in(query["tail"], "tail"))
        if "tail" in query
        else number_in(query.get("offset", "0"), "offset")
    )


def _output_query(request: web.Request) -> tuple[OutputStream, bool]:
    follow = request.query.get("follow", "false")
    if follow not in ("true", "false"):
        raise ApiRefused(400, "INVALID_PARAMETER_VALUE", "follow is true or false")
    return stream_in(request), follow == "true"


def stream_in(request: web.Request) -> OutputStream:
    """Return the stream that a query names.

    Raises:
        ApiRefused: there is none of that name.
    """
    try:
        return OutputStream(request.query.get("stream", "stdout"))
    except ValueError:
        raise ApiRefused(400, "INVALID_PARAMETER_VALUE", "stream is stdout or stderr") from None


def number_in(text: str, name: str) -> int:
    """Return the number that a parameter of a query is.

    Raises:
        ApiRefused: it is none, or too long a one.
    """
    if not (text.isascii() and text.isdecimal() and len(text) <= MAX_OFFSET_DIGITS):
        raise ApiRefused(400, "INVALID_PARAMETER_VALUE", f"{name} is a decimal number")
    return int(text)
