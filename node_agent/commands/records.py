"""What is remembered of a command on the disk: one directory each, with a record that is replaced atomically."""

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from enum import Enum
from pathlib import Path
from typing import Any

from certs.bindings import COMMAND_ID
from node_agent.commands.states import CommandState
from node_agent.supervisor.records import (
    CLAIM_FILE,
    ENDING_FILE,
    SHORTAGES,
    STARTED_FILE,
    STDIN_FILE,
    claim,
    open_directory,
    read_document,
)
from node_agent.supervisor.spool import TIMES_SUFFIX
from trunkline.runtime.files import NotARegularFileError, read_regular, sync_directory, write_atomic

RECORD_FILE = "record.json"
PLAN_FILE = "plan.json"
# More than the longest body of a submit, 8 MiB, with everything that is added to it.
MAX_RECORD_BYTES = 12 * 1024 * 1024
# Whoever asks how a command is has a bound on answers, and thousands are remembered; what was submitted may be longer
# than any such bound.
MAX_SHOWN_ARGUMENT_CHARACTERS = 16 * 1024
# What is said of a file that is there, and is lost: a sector that cannot be read, a file system that is damaged, …
_DAMAGE = frozenset({errno.EIO, errno.EUCLEAN, errno.EBADMSG, errno.ELOOP})


class OutputStream(Enum):
    """The two streams that a process writes; the values are those of the API and the files' names."""

    STDOUT = "stdout"
    STDERR = "stderr"


@dataclass(slots=True)
class CommandRecord:
    """Everything that outlives the agent; times are milliseconds since the epoch.

    The environment and the standard input are not in it, since they may hold secrets. `secrets` names workspace
    secrets, by variable or file; their values are not in it. `named` and `parameters` are what a named command was
    submitted as, `argv` is what it became, or the beginning of that (`argv_truncated`). `output_refused` says why the
    disk did not take output, `stdin_bytes` is set once a standard input that followed is complete.
    """

    command_id: str
    fingerprint: str
    argv: list[str]
    submit_time: int
    submitted_by: str
    run_id: str
    boot_id: str
    state: CommandState = CommandState.QUEUED
    revision: int = 1
    user: str | None = None
    working_directory: str | None = None
    timeout_seconds: float | None = None
    grace_seconds: float | None = None
    limits: dict[str, int | None] | None = None
    max_output_bytes: int | None = None
    named: str | None = None
    parameters: dict[str, str | int | bool] | None = None
    secrets: dict[str, dict[str, str]] | None = None
    token_ids: dict[str, int] = field(default_factory=dict)
    pid: int | None = None
    pid_start_ticks: int | None = None
    start_time: int | None = None
    end_time: int | None = None
    exit_code: int | None = None
    signal: int | None = None
    reason: str | None = None
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    stdout_dropped_bytes: int = 0
    stderr_dropped_bytes: int = 0
    output_removed: bool = False
    output_refused: str | None = None
    usage: dict[str, Any] | None = None
    oom_killed: bool | None = None
    stdin_streamed: bool = False
    stdin_bytes: int | None = None
    argv_truncated: bool = False

    @property
    def shown_characters(self) -> int:
        """How long what was submitted is where it is shown, about."""
        texts = [str(value) for value in (self.parameters or {}).values()]
        texts += [name for given in (self.secrets or {}).values() for pair in given.items() for name in pair]
        return min(MAX_SHOWN_ARGUMENT_CHARACTERS, sum(map(len, self.argv))) + sum(map(len, texts))

    def shorten(self) -> None:
        """Keep no more of the arguments than is shown."""
        shown = beginning_of(self.argv)
        self.argv, self.argv_truncated = shown, self.argv_truncated or shown != self.argv

    def to_json(self) -> bytes:
        """Return the record as it stands in its file."""
        document = asdict(self)
        document["state"] = self.state.value
        # Escapes would make it longer than what was submitted, and so longer than what is read again.
        return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def beginning_of(argv: list[str]) -> list[str]:
    """Return the arguments as far as `MAX_SHOWN_ARGUMENT_CHARACTERS` reach, empty ones counted as one character."""
    kept, left = [], MAX_SHOWN_ARGUMENT_CHARACTERS
    for argument in argv:
        if left <= 0:
            break
        kept.append(argument[:left])
        left -= max(1, len(argument))
    return kept


class DamagedRecord(Exception):  # noqa: N818 - expected after a crash of the disk
    """A record's file does not hold a record."""


def parse_record(content: bytes) -> CommandRecord:
    """Read a record's file; fields that another release wrote are ignored.

    Raises:
        DamagedRecord: it is not JSON, or lacks what every record has.
    """
    try:
        document: dict[str, Any] = json.loads(content)
        known = {one.name for one in fields(CommandRecord)}
        kept = {name: value for name, value in document.items() if name in known}
        kept["state"] = CommandState(kept["state"])
        return CommandRecord(**kept)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedRecord(str(error)) from None


class CommandStore:
    """The directory of all commands. Its methods block on the disk, so that callers run them in a thread."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def open(self) -> None:
        """Make the directory.

        Raises:
            OSError: it cannot be made.
        """
        self._directory.mkdir(mode=0o700, exist_ok=True)

    def load(self) -> Iterator[tuple[str, CommandRecord | None]]:
        """Yield each command's id and its record, or None where the record is damaged.

        A directory without a record is what a crash left of a submit that was never answered: it is removed.

        Raises:
            OSError: the directory cannot be read, or no descriptor is left.
        """
        for directory in sorted(self._directory.iterdir()):
            if not COMMAND_ID.fullmatch(directory.name) or not directory.is_dir():
                continue
            try:
                yield directory.name, parse_record(_read(directory / RECORD_FILE))
            except FileNotFoundError:
                shutil.rmtree(directory, ignore_errors=True)
            except DamagedRecord:
                yield directory.name, None

    def create(self, record: CommandRecord, plan: bytes | None = None) -> None:
        """Record the intent to run a command, durably; after a failure nothing is left of it.

        Args:
            record: the command.
            plan: what its start needs, if it has to wait for that (`StartPlan.to_json`).

        Raises:
            OSError: the disk is full, the directory is read-only, …
        """
        directory = self._directory / record.command_id
        directory.mkdir(mode=0o700, exist_ok=True)
        try:
            if plan is not None:
                write_atomic(directory / PLAN_FILE, plan)
            if record.stdin_streamed:
                write_atomic(directory / STDIN_FILE, b"")
            write_atomic(directory / RECORD_FILE, record.to_json())
            sync_directory(self._directory)
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise

    def save(self, command_id: str, content: bytes) -> None:
        """Replace a command's record by `content` (`CommandRecord.to_json`), durably.

        Raises:
            OSError: the disk is full, …; the record is what it was.
        """
        write_atomic(self._directory / command_id / RECORD_FILE, content)

    def remove(self, command_id: str) -> None:
        """Forget a command: its record first, so that a crash leaves no record without output."""
        directory = self._directory / command_id
        (directory / RECORD_FILE).unlink(missing_ok=True)
        shutil.rmtree(directory, ignore_errors=True)

    def remove_output(self, command_id: str) -> None:
        """Delete what a command wrote, and keep its record."""
        for stream in OutputStream:
            path = self.spool_path(command_id, stream)
            path.unlink(missing_ok=True)
            path.with_name(path.name + TIMES_SUFFIX).unlink(missing_ok=True)

    def keep_plan(self, command_id: str, plan: bytes) -> None:
        """Keep what the start of a command needs, which another agent will see to.

        Raises:
            OSError: the disk did not take it.
        """
        write_atomic(self._directory / command_id / PLAN_FILE, plan)

    def load_plan(self, command_id: str) -> bytes | None:
        """Return what the start of a command needs, or None where it is not kept."""
        try:
            return _read(self._directory / command_id / PLAN_FILE)
        except (OSError, DamagedRecord):
            return None

    def remove_plan(self, command_id: str) -> None:
        """Forget what the start of a command needed."""
        (self._directory / command_id / PLAN_FILE).unlink(missing_ok=True)

    def stdin_path(self, command_id: str) -> Path:
        """Return where a standard input that follows is kept."""
        return self._directory / command_id / STDIN_FILE

    def settle(self, command_id: str) -> None:
        """Forget what is in the record too, once that is final.

        The claim stays: a supervisor that comes up late must find that the command is not its to start.
        """
        directory = self._directory / command_id
        for name in (PLAN_FILE, STDIN_FILE, STARTED_FILE, ENDING_FILE):
            (directory / name).unlink(missing_ok=True)
        for unfinished in directory.glob(f".{PLAN_FILE}.*"):  # of an agent that was killed; it may hold what is secret
            unfinished.unlink(missing_ok=True)

    def claim(self, command_id: str, run_id: str) -> dict[str, Any] | None:
        """Claim a command that no supervisor has claimed, so that none ever starts it; else return that one's claim.

        Raises:
            OSError: the disk did not take the claim.
        """
        with _opened(self.directory_of(command_id)) as directory:
            found = read_document(directory, CLAIM_FILE)
            if found is None and claim(directory, {"run_id": run_id}):
                return None
            return found or read_document(directory, CLAIM_FILE) or {}

    def traces(self, command_id: str) -> "Traces":
        """Return what a supervisor has left in a command's directory.

        Raises:
            OSError: nothing can be opened at present, which says nothing about what is there.
        """
        try:
            with _opened(self.directory_of(command_id)) as directory:
                return Traces(*(read_document(directory, name) for name in (CLAIM_FILE, STARTED_FILE, ENDING_FILE)))
        except OSError as error:
            if error.errno in SHORTAGES:
                raise
            return Traces(None, None, None)

    def directory_of(self, command_id: str) -> Path:
        """Return a command's directory."""
        return self._directory / command_id

    def spool_path(self, command_id: str, stream: OutputStream) -> Path:
        """Return where a command's output is spooled."""
        return self._directory / command_id / stream.value

    def spooled_bytes(self, command_id: str, stream: OutputStream) -> int:
        """Return how many bytes of output are on the disk."""
        try:
            return self.spool_path(command_id, stream).stat().st_size
        except FileNotFoundError:
            return 0


@dataclass(frozen=True, slots=True)
class Traces:
    """What a supervisor says in its files, as far as it got (see `node_agent.supervisor.records`)."""

    claim: dict[str, Any] | None
    started: dict[str, Any] | None
    ending: dict[str, Any] | None


@contextlib.contextmanager
def _opened(directory: Path) -> Iterator[int]:
    descriptor = open_directory(directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read(path: Path) -> bytes:
    try:
        content = read_regular(path, most_bytes=MAX_RECORD_BYTES + 1)
    except OSError as error:
        if error.errno in _DAMAGE or isinstance(error, NotARegularFileError):
            raise DamagedRecord(error.strerror) from None
        raise
    if len(content) > MAX_RECORD_BYTES:
        raise DamagedRecord("the file is too long")
    return content
