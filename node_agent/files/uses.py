"""What is remembered of each copying: who, what, as whom, how much, and its hash; never what was in it."""

from dataclasses import dataclass
from enum import Enum


class FileEvent(Enum):
    """What was done."""

    READ = "read"
    HASHED = "hashed"
    WRITTEN = "written"
    LISTED = "listed"
    MADE = "made"
    REFUSED = "refused"


class FileOutcome(Enum):
    """How it ended."""

    COMPLETE = "complete"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class FileUse:
    """One copying; `reason` is the symbol of a failure, or the rule of the owner's that refused.

    `sha256` is that of the bytes that were read or hashed, from `offset` on, or of the whole file that was
    written. Hashing is told of too: whoever asks for the hashes of all beginnings of a file finds out what is in it.
    """

    event: FileEvent
    subject: str
    token_id: str
    path: str
    user: str
    outcome: FileOutcome = FileOutcome.COMPLETE
    offset: int = 0
    size_bytes: int = 0
    sha256: str = ""
    reason: str = ""
