"""As which user of the operating system a command runs."""

import errno
import os
import pwd
from dataclasses import dataclass

UNPRIVILEGED_USER = "nobody"


class NoAccount(Exception):  # noqa: N818 - an expected refusal
    """Nothing can be done as this user."""


class NoSuchAccount(NoAccount):
    """The user is not known on this node."""


class LookupFailed(NoAccount):
    """Whether there is such a user, and in which groups, cannot be told at present."""


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
    """Look a user up (this may block on a directory service, or on the user's home); None is the agent's own user.

    The home is `/` where there is none that this process can see: users may mount something there that not even root
    may look at (mount.fuse3(8), `allow_other`), and what that says of it is as they like.

    Raises:
        NoSuchAccount: there is none of that name.
        LookupFailed: no descriptor is left.
    """
    entry = _entry(name)
    groups = tuple(os.getgrouplist(entry.pw_name, entry.pw_gid))
    _check_descriptors()
    return Account(
        name=entry.pw_name,
        uid=entry.pw_uid,
        gid=entry.pw_gid,
        groups=groups,
        home=entry.pw_dir if os.path.isdir(entry.pw_dir) else "/",  # noqa: PTH112 - Path's raises what users provoke
        switched=entry.pw_uid != os.geteuid(),
    )


def find_uid(name: str | None) -> tuple[str, int]:
    """Look up a user's name and number only (this may block on a directory service); None is the agent's own user.

    Raises:
        NoSuchAccount: there is none of that name.
        LookupFailed: no descriptor is left.
    """
    entry = _entry(name)
    return entry.pw_name, entry.pw_uid


def _entry(name: str | None) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(os.geteuid()) if name is None else pwd.getpwnam(name)
    except KeyError:
        _check_descriptors()
        raise NoSuchAccount(f"there is no user {name or os.geteuid()!r} on this node") from None


def _check_descriptors() -> None:
    """Raise if no file can be opened: then nobody is found, and everybody is in one group, without a word of why."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise LookupFailed(f"the users of this node cannot be looked up: {error.strerror}") from None
