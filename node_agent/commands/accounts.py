"""As which user of the operating system a command runs."""

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

UNPRIVILEGED_USER = "nobody"


class NoSuchAccount(Exception):  # noqa: N818 - an expected refusal
    """The user is not known on this node."""


@dataclass(frozen=True, slots=True)
class Account:
    """A user as the kernel knows it; `switched` says that it is not the agent's own."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    switched: bool


def default_user(run_as: str | None) -> str | None:
    """Return the user that commands run as when they name none; None is the agent's own.

    An agent that runs as root and whose owner names nobody else runs commands as `nobody`.
    """
    if run_as is not None:
        return run_as
    return UNPRIVILEGED_USER if os.geteuid() == 0 else None


def find_account(name: str | None) -> Account:
    """Look a user up (this may block on a directory service); None is the agent's own user.

    Raises:
        NoSuchAccount: there is none of that name.
    """
    try:
        entry = pwd.getpwuid(os.geteuid()) if name is None else pwd.getpwnam(name)
    except KeyError:
        raise NoSuchAccount(f"there is no user {name or os.geteuid()!r} on this node") from None
    groups = tuple(os.getgrouplist(entry.pw_name, entry.pw_gid))
    return Account(
        name=entry.pw_name,
        uid=entry.pw_uid,
        gid=entry.pw_gid,
        groups=groups,
        home=entry.pw_dir if Path(entry.pw_dir).is_dir() else "/",
        switched=entry.pw_uid != os.geteuid(),
    )
