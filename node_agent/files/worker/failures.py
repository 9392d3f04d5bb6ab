"""How a worker says that something cannot be done: by a symbol, the kernel's own where it is the kernel's word."""

import errno

from node_agent.files.worker.frames import Document
from trunkline.files.beneath import NotRegular
from trunkline.files.partial import PartialBusy, WrongDigest
from trunkline.files.trees import TooManyEntries


class Failed(Exception):  # noqa: N818 - an expected refusal
    """Something cannot be done, for the reason that the symbol names; `size_bytes` is where a file ends."""

    def __init__(self, symbol: str, size_bytes: int | None = None) -> None:
        super().__init__(symbol)
        self.symbol = symbol
        self.size_bytes = size_bytes


_SYMBOLS: dict[type[Exception], str] = {
    NotRegular: "NOT_REGULAR",
    PartialBusy: "BUSY",
    WrongDigest: "WRONG_DIGEST",
    TooManyEntries: "TOO_MANY",
    EOFError: "TOO_SHORT",
}
EXPECTED: tuple[type[Exception], ...] = (OSError, Failed, *_SYMBOLS)


def failure_document(error: Exception) -> Document:
    """Return what the agent is told of an error."""
    if isinstance(error, Failed):
        return {"failed": error.symbol, "size_bytes": error.size_bytes}
    if isinstance(error, OSError):
        return {"failed": errno.errorcode.get(error.errno or 0, "EIO")}
    return {"failed": _SYMBOLS[type(error)]}
