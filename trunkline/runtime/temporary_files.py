"""Where the temporary files of libraries come to lie: in memory, so that a full disk keeps nobody out.

The TLS transports of the fast loop write the peer's certificate to a temporary file in each handshake, to have it read
by the interpreter, and remove it at once. On a full disk no relay could accept an agent then, and no agent dial. The
same goes for shared memory, which every user of the machine may fill: the directory that systemd makes for a daemon
alone, in memory too (systemd.exec(5), `RuntimeDirectory`), comes before it.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - only where libraries make files of names of their own, mode 0600


@contextmanager
def temporary_files_in_memory(
    environ: Mapping[str, str] | None = None, directory: Path = SHARED_MEMORY
) -> Iterator[None]:
    """Have this process make temporary files in memory, while the block lasts.

    That is in the first directory of `RUNTIME_DIRECTORY`, or else in `directory`. Where `TMPDIR` says otherwise, or
    neither can be written, all stays as it is.
    """
    before, environ = tempfile.tempdir, os.environ if environ is None else environ
    if not environ.get("TMPDIR"):
        own = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
        places = [place for place in (own, str(directory)) if place and os.access(place, os.W_OK | os.X_OK)]
        tempfile.tempdir = places[0] if places else before
    try:
        yield
    finally:
        tempfile.tempdir = before


def without_temporary_files() -> str | None:
    """What to do where no temporary file can be made anywhere; None where one can."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        return "let this user write in /dev/shm, or in a directory that TMPDIR names"
    return None
