"""Where the command finds its control plane, token, trust and workspace.

The first of these that exists says everything, but for what an option overrides: the sandbox named with ``--state`` or
in ``./.trunkline``; the variables ``TRUNKLINE_CONTROL_PLANE_URL``, ``TRUNKLINE_TOKEN_FILE`` or ``TRUNKLINE_TOKEN``,
``TRUNKLINE_CA_FILE`` and ``TRUNKLINE_WORKSPACE``; the file ``~/.config/trunkline/config.toml``. A token is never an
option, because an argument list is visible to every user of the machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from trunkline.cli.exits import CommandFailed
from trunkline.client.outbound_proxy import is_loopback
from trunkline.files.names import shown

SANDBOX_DIRECTORY = ".trunkline"
SANDBOX_FILE = "sandbox.json"
DEFAULT_WORKSPACE = "main"
_LARGEST_FILE_BYTES = 1_048_576
_CONFIG_KEYS = frozenset({"control_plane_url", "token_file", "ca_file", "workspace"})


@dataclass(frozen=True, slots=True)
class Connection:
    """How to reach a control plane, and as whom."""

    control_plane_url: str
    token: str = field(repr=False)
    ca_file: Path | None
    workspace: str
    relay_url: str | None = None


def find_connection(state: Path | None, environ: Mapping[str, str], directory: Path) -> Connection:
    """The connection to use.

    Args:
        state: the directory given with ``--state``, if any.
        environ: the process's environment.
        directory: the current directory.

    Raises:
        CommandFailed: nothing says where the control plane is, or what says so is not usable.
    """
    sandbox_file = (state or directory / SANDBOX_DIRECTORY) / SANDBOX_FILE
    if state is not None or _exists(sandbox_file):
        return _from_sandbox(sandbox_file)
    if environ.get("TRUNKLINE_CONTROL_PLANE_URL"):
        return _from_environment(environ)
    config_file = _config_file(environ)
    if _exists(config_file):
        return _from_config(config_file, environ)
    raise CommandFailed(
        "no control plane is known here: set TRUNKLINE_CONTROL_PLANE_URL and TRUNKLINE_TOKEN_FILE, "
        f"write {config_file}, or start a sandbox with `trunkline up`",
        os.EX_CONFIG,
    )


def _exists(path: Path) -> bool:
    """Whether there is something; where that may not be known, nothing else is taken in its place."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise CommandFailed(f"{shown(str(path))} cannot be looked at: {error.strerror}", os.EX_NOINPUT) from None
    return True


def _from_sandbox(path: Path) -> Connection:
    if not _exists(path):
        where = shown(str(path.parent))
        raise CommandFailed(f"no sandbox is running in {where}: start it with `trunkline up`", os.EX_NOINPUT)
    document = _read_own_json(path)
    try:
        token_file, ca_file = Path(document["admin_token_file"]), Path(document["ca_file"])
        url, relay_url = str(document["control_plane_url"]), str(document["relay_url"])
        workspace = str(document["workspace"])
    except (KeyError, TypeError):
        raise CommandFailed(f"{path} is not a sandbox's file: run `trunkline up` again", os.EX_DATAERR) from None
    _check_is_sandbox(path, (url, relay_url), (token_file, ca_file))
    return Connection(url, _read_token(token_file), ca_file, workspace, relay_url)


def _check_is_sandbox(path: Path, urls: tuple[str, ...], files: tuple[Path, ...]) -> None:
    """Let a sandbox's file pass that keeps within its directory and this machine.

    The directory may have come with something that was unpacked or checked out: who wrote it must not have one of our
    files, an operator's token say, sent to a place of theirs, nor what is meant for our own nodes.
    """
    within = path.parent.resolve()
    if not all(_is_on_loopback(url) for url in urls) or not all(
        file.resolve().is_relative_to(within) for file in files
    ):
        raise CommandFailed(
            f"{shown(str(path))} leads away from this machine or out of its directory, as no sandbox does: "
            "it is not used; remove it, or go to another directory",
            os.EX_NOPERM,
        )


def _is_on_loopback(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return is_loopback(parts.hostname or "") and parts.username is None


def _from_environment(environ: Mapping[str, str]) -> Connection:
    return Connection(
        control_plane_url=environ["TRUNKLINE_CONTROL_PLANE_URL"],
        token=_token_from_environment(environ),
        ca_file=Path(environ["TRUNKLINE_CA_FILE"]) if environ.get("TRUNKLINE_CA_FILE") else None,
        workspace=environ.get("TRUNKLINE_WORKSPACE") or DEFAULT_WORKSPACE,
    )


def _from_config(path: Path, environ: Mapping[str, str]) -> Connection:
    table = _read_config(path)
    if "control_plane_url" not in table:
        raise CommandFailed(f"{path}: control_plane_url is missing", os.EX_CONFIG)
    token_file = table.get("token_file")
    token = _read_token(_own_path(path, token_file)) if token_file else _token_from_environment(environ)
    return Connection(
        control_plane_url=table["control_plane_url"],
        token=token,
        ca_file=_own_path(path, table["ca_file"]) if "ca_file" in table else None,
        workspace=environ.get("TRUNKLINE_WORKSPACE") or table.get("workspace", DEFAULT_WORKSPACE),
    )


def _config_file(environ: Mapping[str, str]) -> Path:
    base = environ.get("XDG_CONFIG_HOME") or os.path.join(environ.get("HOME") or _home(), ".config")  # noqa: PTH118
    return Path(base, "trunkline/config.toml")


def _home() -> str:
    try:
        return str(Path.home())
    except RuntimeError:  # a user id without an entry in the machine's list, as containers have them
        return "/"


def _own_path(source: Path, text: str) -> Path:
    """Return a path that a file names, from its directory on: whose directory we are in does not say whom we trust."""
    try:
        return source.parent / Path(text).expanduser()
    except RuntimeError:
        raise CommandFailed(f"{source}: whose home directory begins {text} is not known", os.EX_CONFIG) from None


def _token_from_environment(environ: Mapping[str, str]) -> str:
    if environ.get("TRUNKLINE_TOKEN_FILE"):
        return _read_token(Path(environ["TRUNKLINE_TOKEN_FILE"]))
    token = environ.get("TRUNKLINE_TOKEN", "").strip()
    if not token:
        raise CommandFailed(
            "no token: set TRUNKLINE_TOKEN_FILE to the file that holds the operator's token", os.EX_CONFIG
        )
    return token


def _read_token(path: Path) -> str:
    token = _read_bounded(path).decode("utf-8", "replace").strip()
    if not token or not token.isprintable() or not token.isascii():
        raise CommandFailed(f"{path} does not hold a token", os.EX_DATAERR)
    _warn_if_anybody_reads(path)
    return token


def _warn_if_anybody_reads(path: Path) -> None:
    """An operator's token is the account: whoever reads it is one."""
    with contextlib.suppress(OSError):
        if path.stat().st_mode & stat.S_IROTH:
            click.echo(f"trunkline: {shown(str(path))} can be read by everybody on this machine: chmod 600", err=True)


def _read_own_json(path: Path) -> dict[str, Any]:
    """Read a sandbox's file, which must not be writable by others: it decides where tokens are sent."""
    content = _read_bounded(path, refuse_foreign=True)
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        document = None
    return document if isinstance(document, dict) else {}


def _read_config(path: Path) -> dict[str, str]:
    try:
        table = tomllib.loads(_read_bounded(path, refuse_foreign=True).decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CommandFailed(f"{path}: not valid TOML: {error}", os.EX_CONFIG) from None
    problems = [f"{key}: unknown key" for key in sorted(set(table) - _CONFIG_KEYS)]
    problems += [
        f"{key}: must be text" for key, value in table.items() if key in _CONFIG_KEYS and not isinstance(value, str)
    ]
    if problems:
        raise CommandFailed(f"{path}: {'; '.join(problems)}", os.EX_CONFIG)
    return table


def _read_bounded(path: Path, *, refuse_foreign: bool = False) -> bytes:
    try:
        # What somebody names may be a pipe that is waited for; what is looked for may not.
        if refuse_foreign and not stat.S_ISREG(path.stat().st_mode):
            raise CommandFailed(f"{shown(str(path))} is not a regular file: remove it", os.EX_CONFIG)
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if refuse_foreign and (
                status.st_uid not in (os.geteuid(), 0) or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            ):
                raise CommandFailed(
                    f"{path} belongs to, or can be written by, another user; it is not used", os.EX_NOPERM
                )
            return file.read(_LARGEST_FILE_BYTES)
    except FileNotFoundError:
        raise CommandFailed(f"{shown(str(path))} does not exist", os.EX_NOINPUT) from None
    except OSError as error:
        raise CommandFailed(f"{shown(str(path))} cannot be read: {error.strerror}", os.EX_NOINPUT) from None
    except ValueError:  # a NUL
        raise CommandFailed(f"{shown(str(path))} is no path", os.EX_CONFIG) from None
