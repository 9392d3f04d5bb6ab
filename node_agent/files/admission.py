"""Admission: whether a caller may read or write a file, as which user, and where that is; decided from values alone."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from node_agent.commands.accounts import default_user
from node_agent.commands.errors import CommandRefusal, PolicyRule, RefusalReason
from node_agent.files.worker.places import Place
from node_agent.policy import Policy
from trunkline.files.names import MOST_PATH_BYTES, NameRefused, check_name, parts_of


class Direction(Enum):
    """Which way a file goes."""

    READ = "read"
    WRITE = "write"


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked for: a path as somebody wrote it, names beneath it, and the user of the node, if one is named."""

    direction: Direction
    path: str
    below: tuple[str, ...] = ()
    user: str | None = None

    @property
    def shown(self) -> str:
        """The whole path."""
        return "/".join([self.path.rstrip("/"), *self.below]) if self.below else self.path

    def directories_of(self, policy: Policy) -> tuple[str, ...] | None:
        """Return the directories that the owner allows; None is all."""
        reading = self.direction is Direction.READ
        return policy.files.read_directories if reading else policy.files.write_directories


class PlaceRefused(ValueError):  # noqa: N818 - an expected refusal
    """The path is none; the message says why."""


def refusal(asked: Asked, subject: str, policy: Policy) -> CommandRefusal | None:
    """Return the first rule that refuses, before anything is looked up."""
    return next((one for one in _refusals(asked, subject, policy) if one is not None), None)


def user_of(asked: Asked, policy: Policy) -> str | None:
    """Return the user that the files are touched as; None is the agent's own."""
    return asked.user or _users(policy)[0]


def place_of(asked: Asked, home: str, policy: Policy) -> Place | CommandRefusal:
    """Return where a path leads, one that is not absolute from the home directory of the user on.

    Raises:
        PlaceRefused: it is no path.
    """
    if "\0" in asked.path or len(os.fsencode(asked.path)) > MOST_PATH_BYTES:
        raise PlaceRefused(f"a path has at most {MOST_PATH_BYTES} bytes, and no NUL among them")
    path = os.path.join(home, asked.path)  # noqa: PTH118 - text, not a place on this side
    directories = asked.directories_of(policy)
    if directories is not None:
        return _confined(asked, path, directories)
    if asked.below:
        return Place(path, asked.below)
    above, _, name = path.rstrip("/").rpartition("/")
    if name in ("", ".", ".."):
        return Place(path, ())
    try:
        check_name(name)
    except NameRefused as error:
        raise PlaceRefused(str(error)) from None
    return Place(above or "/", (name,), follow=asked.direction is Direction.READ)


def _refusals(asked: Asked, subject: str, policy: Policy) -> Iterator[CommandRefusal | None]:
    if asked.direction is Direction.READ and not policy.allows_reading_files:
        yield _denied(PolicyRule.FILES_READ, "the node's owner does not allow files to be read")
    if asked.direction is Direction.WRITE and not policy.allows_writing_files:
        yield _denied(PolicyRule.FILES_WRITE, "the node's owner does not allow files to be written")
    if not policy.allows_files_of(subject):
        yield _denied(PolicyRule.FILES_ALLOWED_SUBJECTS, "the node's owner does not allow this caller to copy files")
    if asked.user is not None and asked.user not in _users(policy):
        rule = PolicyRule.ALLOWED_USERS if policy.files.users is None else PolicyRule.FILES_USERS
        yield _denied(rule, f"the node's owner does not allow files to be copied as {asked.user!r}")


def _users(policy: Policy) -> tuple[str | None, ...]:
    if policy.files.users is not None:
        return policy.files.users
    return (default_user(policy.commands.run_as), *policy.commands.allowed_users)


def _confined(asked: Asked, path: str, directories: tuple[str, ...]) -> Place | CommandRefusal:
    """Find the directory of the owner's that the path is beneath; from there on no link is followed."""
    for directory in directories:
        top = directory.rstrip("/") + "/"
        if path.rstrip("/") + "/" == top or path.startswith(top):
            try:
                return Place(directory, (*parts_of(path[len(top) :].rstrip("/")), *asked.below))
            except NameRefused as error:
                raise PlaceRefused(str(error)) from None
    reading = asked.direction is Direction.READ
    rule = PolicyRule.FILES_READ_DIRECTORIES if reading else PolicyRule.FILES_WRITE_DIRECTORIES
    return _denied(rule, "the node's owner allows files to be copied in certain directories only, of which it is none")


def _denied(rule: PolicyRule, message: str) -> CommandRefusal:
    return CommandRefusal(RefusalReason.POLICY, message, rule)
