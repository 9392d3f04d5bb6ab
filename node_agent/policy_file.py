"""The policy file: read with suspicion, since whoever can write it decides what runs on the node."""

import os
import stat
import tomllib
from collections.abc import Callable
from pathlib import Path

from node_agent.policy import Narrowing, Policy, parse_policy
from trunkline.runtime.logs import Logger

MAX_POLICY_BYTES = 1024 * 1024


class PolicyError(Exception):
    """The policy file cannot be used; the message names the file and what to do."""


def read_policy_file(path: Path) -> Policy:
    """Read and check the owner's policy.

    The file must belong to root or to the agent's own user, and nobody else may be able to write it.

    Raises:
        PolicyError: the file is missing, writable by others, not TOML, or says what a policy cannot say.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            _check_owner(path, os.fstat(descriptor))
            content = os.read(descriptor, MAX_POLICY_BYTES + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise PolicyError(f"policy file {path}: {error.strerror}") from None
    return _parse(path, content)


def _check_owner(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise PolicyError(f"policy file {path}: it is not a regular file")
    if status.st_uid not in (0, os.geteuid()):
        raise PolicyError(f"policy file {path}: it must belong to root or to the user that runs the agent")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PolicyError(f"policy file {path}: others than its owner can write it; run chmod go-w on it")


def _parse(path: Path, content: bytes) -> Policy:
    if len(content) > MAX_POLICY_BYTES:
        raise PolicyError(f"policy file {path}: it is longer than {MAX_POLICY_BYTES} bytes")
    try:
        return parse_policy(tomllib.loads(content.decode("utf-8")))
    except ValueError as error:  # TOML and text errors are ValueErrors too
        raise PolicyError(f"policy file {path}: {error}") from None


class PolicySource:
    """The policy in force: the owner's file, narrowed by what the control plane last said."""

    def __init__(self, path: Path | None, log: Logger) -> None:
        self._path = path
        self._log = log
        self._owner = Policy() if path is None else read_policy_file(path)
        self._narrowing = Narrowing()
        self._subscribers: list[Callable[[Policy], None]] = []
        self.current = self._owner

    def subscribe(self, changed: Callable[[Policy], None]) -> None:
        """Have `changed` called with each new policy."""
        self._subscribers.append(changed)

    def reload(self) -> bool:
        """Read the file again; a file that cannot be used changes nothing. Return whether it was taken."""
        if self._path is None:
            return True
        try:
            self._owner = read_policy_file(self._path)
        except PolicyError as error:
            self._log.error("policy.refused", reason=str(error), consequence="the policy read before stays in force")
            return False
        self._log.info("policy.loaded", file=str(self._path), ports=sorted(self._owner.ports))
        self._put_in_force()
        return True

    def narrow(self, narrowing: Narrowing) -> None:
        """Take what the control plane says now; what it said before no longer counts."""
        if narrowing != self._narrowing:
            self._narrowing = narrowing
            self._put_in_force()

    def _put_in_force(self) -> None:
        self.current = self._owner.narrowed(self._narrowing)
        for changed in self._subscribers:
            changed(self.current)
