"""The front of a daemon's program: arguments, settings, logs, event loop, and exit codes as in sysexits(3)."""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

from trunkline.runtime.allocator import keep_free_memory
from trunkline.runtime.collector import program_set_aside
from trunkline.runtime.files import StateDirectoryError
from trunkline.runtime.logs import Logger, configure_logging, get_logger
from trunkline.runtime.loop import EventLoopName, run
from trunkline.runtime.settings import DaemonSettings, SettingsError, load_settings
from trunkline.runtime.temporary_files import temporary_files_in_memory, without_temporary_files
from trunkline.version import __version__

EXIT_USAGE = 64
EXIT_UNAVAILABLE = 69
EXIT_SOFTWARE = 70
EXIT_CANNOT_CREATE = 73
EXIT_TEMPORARY = 75
EXIT_NO_PERMISSION = 77
EXIT_CONFIGURATION = 78

S = TypeVar("S", bound=DaemonSettings)


class StartError(Exception):
    """The daemon cannot run, for a reason that the operator can mend; the message is one line that says how."""

    def __init__(self, message: str, exit_code: int = EXIT_CONFIGURATION) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Daemon(Generic[S]):
    """What the front has to know of a daemon.

    Attributes:
        name: as on the command line, e.g. `relay`.
        prefix: how its environment variables begin, e.g. `TRUNKLINE_RELAY`.
        settings_class: the model of its settings.
        serve: the main coroutine; it returns when the daemon has drained.
        check: names what is wrong in files that the settings point at, one line each; asked by `--check-config`.
        epilog: what `--help` says at its end.
        usage: its first lines, where there are more arguments than those of every daemon.
    """

    name: str
    prefix: str
    settings_class: type[S]
    serve: Callable[[S], Coroutine[Any, Any, None]]
    check: Callable[[S], Sequence[str]] = lambda settings: ()
    epilog: str = ""
    usage: str | None = None


def run_daemon(daemon: Daemon[S], argv: Sequence[str] | None, environ: Mapping[str, str] | None = None) -> int:
    """Run a daemon from its arguments to its exit code."""
    environ = os.environ if environ is None else environ
    arguments = _parser(daemon).parse_args(argv)
    try:
        settings = load_settings(daemon.settings_class, arguments.config, environ, prefix=daemon.prefix)
    except SettingsError as error:
        return _report(daemon, error.problems)
    if arguments.check_config:
        return _report(daemon, daemon.check(settings))
    configure_logging(settings.log.level, settings.log.format)
    log = get_logger(daemon.name.replace("-", "_"))
    return run_to_exit(lambda: daemon.serve(settings), event_loop=settings.event_loop, log=log)


def run_to_exit(main: Callable[[], Coroutine[Any, Any, None]], *, event_loop: EventLoopName, log: Logger) -> int:
    """Run a main coroutine to its end, and return the exit code; what it raises is logged."""
    keep_free_memory()
    try:
        with program_set_aside(), temporary_files_in_memory():
            if hint := without_temporary_files():
                consequence = "TLS connections on which a certificate is shown may fail, on either side"
                log.error("daemon.no_temporary_files", consequence=consequence, hint=hint)
            run(main, event_loop=event_loop, log=log)
    except (Exception, asyncio.CancelledError, KeyboardInterrupt) as error:  # noqa: BLE001 - the outermost edge
        return _exit_code(error, log)
    return 0


def _report(daemon: Daemon[S], problems: Sequence[str]) -> int:
    """Say what is wrong with the settings, or `ok`; returns the exit code."""
    if not problems:
        sys.stdout.write("ok\n")
        return 0
    for problem in problems:
        sys.stderr.write(f"trunkline {daemon.name}: {problem}\n")
    return EXIT_CONFIGURATION


def _exit_code(error: BaseException, log: Logger) -> int:
    causes = list(_leaves(error))
    for cause in causes:
        if isinstance(cause, StartError):
            log.error("daemon.start_failed", version=__version__, reason=str(cause))
            return cause.exit_code
        if isinstance(cause, StateDirectoryError):
            log.error("daemon.start_failed", version=__version__, reason=str(cause))
            return EXIT_CANNOT_CREATE
    log.error("daemon.failed", version=__version__, error=type(causes[0]).__name__, exc_info=error)
    return EXIT_SOFTWARE


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]


class DaemonParser(argparse.ArgumentParser):
    """Arguments of a daemon's program; wrong ones are told in a line, with the exit code `EXIT_USAGE`."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the arguments, and exit."""
        self.exit(EXIT_USAGE, f"{self.prog}: {message} (see --help)\n")


def _parser(daemon: Daemon[S]) -> argparse.ArgumentParser:
    parser = DaemonParser(prog=f"trunkline {daemon.name}", usage=daemon.usage, allow_abbrev=False, epilog=daemon.epilog)
    parser.add_argument("--config", type=Path, metavar="FILE", help="the settings, as TOML")
    parser.add_argument("--check-config", action="store_true", help="check the settings, print ok and exit")
    parser.add_argument("--version", action="version", version=f"trunkline {__version__}")
    return parser
