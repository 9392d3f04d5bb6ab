"""What the owner says of files that are copied from and to the node."""

from typing import Annotated

from pydantic import AfterValidator, Field

from node_agent.rules.base import AbsolutePath, Array, Rules, Subjects, UserName

LARGEST_FILE_BYTES = 2**40


def _plain(path: str) -> str:
    if {".", ".."} & set(path.split("/")):
        raise ValueError("must have neither . nor .. in it")
    return path


Directory = Annotated[AbsolutePath, AfterValidator(_plain)]
Directories = Annotated[tuple[Directory, ...], Array, Field(max_length=64)]


class FileRules(Rules):
    """Whether files may be read and written, by whom, as whom, where, and how much.

    Without `read` and `write` they may where shells may be opened: whoever has a shell can do both by it, as the same
    users. Without `allowed_subjects` those of shells count, and without `users` those of commands; of `users` the first
    is that of callers who name none. With directories, nothing else is reached, and no link beneath them is followed.
    """

    read: bool | None = None
    write: bool | None = None
    allowed_subjects: Subjects | None = None
    users: Annotated[tuple[UserName, ...], Array, Field(min_length=1, max_length=64)] | None = None
    read_directories: Directories | None = None
    write_directories: Directories | None = None
    max_file_bytes: int = Field(default=LARGEST_FILE_BYTES, ge=1, le=2**62)
    max_entries: int = Field(default=100_000, ge=1, le=10_000_000)
    max_concurrent: int = Field(default=16, ge=1, le=1024)
