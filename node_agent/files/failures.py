"""What cannot be done with a file, as the API says it: a status, a code and a line for the worker's symbol."""

import errno
import os
from typing import NamedTuple, Self

from node_agent.files.worker.frames import Document


class _Answer(NamedTuple):
    status: int
    error_code: str
    message: str


_NOT_FOUND, _DENIED = (404, "RESOURCE_DOES_NOT_EXIST"), (403, "PERMISSION_DENIED")
_STATE, _NO_ROOM = (409, "INVALID_STATE"), (507, "RESOURCE_EXHAUSTED")
_KERNEL = {
    "ENOENT": _NOT_FOUND,
    "EACCES": _DENIED,
    "EPERM": _DENIED,
    "EROFS": _DENIED,
    "ENOSPC": _NO_ROOM,
    "EDQUOT": _NO_ROOM,
    "EISDIR": _STATE,
    "ENOTDIR": _STATE,
    "EEXIST": _STATE,
    "ENOTEMPTY": _STATE,
    "ETXTBSY": _STATE,
    "ENAMETOOLONG": (400, "INVALID_PARAMETER_VALUE"),
}
_OWN = {
    "ELOOP": _Answer(*_STATE, "a symbolic link is in the way, and is not followed there"),
    "NOT_REGULAR": _Answer(*_STATE, "it is neither a file nor a directory"),
    "BUSY": _Answer(409, "ABORTED", "another transfer to the same file is going on"),
    "WRONG_DIGEST": _Answer(422, "CHECKSUM_MISMATCH", "what arrived is not what was sent; the target is as it was"),
    "OTHER_PREFIX": _Answer(409, "CHECKSUM_MISMATCH", "what had arrived before is not the beginning of this file"),
    "TOO_MANY": _Answer(413, "REQUEST_LIMIT_EXCEEDED", "there is more in the directory than the node's owner allows"),
    "TOO_LARGE": _Answer(413, "REQUEST_LIMIT_EXCEEDED", "the file is larger than the node's owner allows"),
    "TOO_SHORT": _Answer(416, "INVALID_PARAMETER_VALUE", "the file is shorter than it was"),
    "BEYOND_END": _Answer(416, "INVALID_PARAMETER_VALUE", "that is not where what is there ends"),
    "NO_DIGEST": _Answer(400, "INVALID_PARAMETER_VALUE", "the content must end with its SHA-256"),
    "STALLED": _Answer(408, "DEADLINE_EXCEEDED", "no content came for too long"),
    "LINK_LEADS_OUT": _Answer(400, "INVALID_PARAMETER_VALUE", "the link leads out of the directory that is copied"),
}
_RULES = {"TOO_MANY": "files.max_entries", "TOO_LARGE": "files.max_file_bytes"}


class FileFailed(Exception):  # noqa: N818 - an expected refusal
    """Something cannot be done with a file."""

    def __init__(self, symbol: str, size_bytes: int | None = None) -> None:
        self.symbol = symbol
        self.status, self.error_code, self.message = _answer(symbol)
        self.details = {"policy_rule": _RULES[symbol]} if symbol in _RULES else {}
        self.details |= {"size_bytes": str(size_bytes)} if size_bytes is not None else {}
        super().__init__(self.message)

    @classmethod
    def of(cls, document: Document) -> Self:
        """Return the error that a worker speaks of; what it does not put rightly is a failure all the same."""
        symbol, size = document.get("failed"), document.get("size_bytes")
        whole = isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 2**63
        return cls(symbol if isinstance(symbol, str) else "EIO", size if whole else None)

    def document(self) -> dict[str, object]:
        """Return the error in the form of the API."""
        document: dict[str, object] = {"error_code": self.error_code, "message": self.message}
        return document | ({"details": self.details} if self.details else {})


def _answer(symbol: str) -> _Answer:
    if symbol in _OWN:
        return _OWN[symbol]
    number = getattr(errno, symbol, errno.EIO)
    status, error_code = _KERNEL.get(symbol, (422, "CANNOT_ACCESS"))
    return _Answer(status, error_code, os.strerror(number if isinstance(number, int) else errno.EIO))
