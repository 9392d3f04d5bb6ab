"""How the command ends: exit statuses as in sysexits(3), and the one line on standard error that says what to do."""

from __future__ import annotations

import errno
import os

from trunkline.cli.listings import with_commands
from trunkline.client.errors import (
    ApiError,
    BadResponse,
    DeadlineExceeded,
    PermissionRefused,
    RelayBusy,
    RelayRefused,
    RequestInvalid,
    TrunklineError,
    Unauthenticated,
    Unreachable,
)

INTERRUPTED = 130
BROKEN_PIPE = 141
_BY_STATUS = {
    400: os.EX_DATAERR,
    401: os.EX_NOPERM,
    403: os.EX_NOPERM,
    404: os.EX_NOINPUT,
    409: os.EX_DATAERR,
    416: os.EX_DATAERR,
    429: os.EX_TEMPFAIL,
    503: os.EX_TEMPFAIL,
}
_OUTPUT_LOST = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})


class CommandFailed(Exception):  # noqa: N818 - what happened, not what went wrong in the code
    """The command cannot do what it was asked for; the message is one line that says what to do."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class ReaderGone(Exception):  # noqa: N818 - what happened
    """Whoever read our standard output has closed it."""


def status_of(error: TrunklineError) -> int:
    """The exit status for an error of the SDK."""
    if isinstance(error, Unauthenticated | PermissionRefused):
        return os.EX_NOPERM
    if isinstance(error, RelayBusy):
        return os.EX_TEMPFAIL
    if isinstance(error, ApiError | RelayRefused):
        return _BY_STATUS.get(error.status, os.EX_UNAVAILABLE)
    if isinstance(error, Unreachable | DeadlineExceeded):
        return os.EX_UNAVAILABLE
    if isinstance(error, RequestInvalid):
        return os.EX_DATAERR
    return os.EX_PROTOCOL if isinstance(error, BadResponse) else os.EX_TEMPFAIL


def line_of(error: TrunklineError) -> str:
    """The error in one line, with commands for requests of the API, and the relay's request id where there is one."""
    hint = ""
    message = with_commands(str(error)) if isinstance(error, ApiError) else str(error)
    if isinstance(error, ApiError) and error.status == 401:
        hint = "; check TRUNKLINE_TOKEN_FILE"
    if isinstance(error, RelayRefused) and error.request_id:
        hint += f" (request {error.request_id})"
    return printable(f"{message}{hint}")


def line_of_os_error(error: OSError) -> str:
    """An error of this machine in one line; what has no name is most often our own output, on a disk that is full."""
    reason = error.strerror or str(error)
    if error.filename is not None:
        return printable(f"{os.fsdecode(error.filename)}: {reason}")
    return f"the output cannot be written: {reason}" if error.errno in _OUTPUT_LOST else reason


def printable(text: str) -> str:
    """Text of foreign origin on one line and without control characters, so that it cannot steer the terminal."""
    return "".join(character if character.isprintable() else " " for character in text)
