"""What a caller asks for when it opens a shell: the body of the request, checked, and the program that comes of it."""

import hashlib
import os
import re
import secrets
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from node_agent.commands.accounts import Account
from node_agent.commands.documents import DocumentRefused, problems_of, read_document
from node_agent.commands.proc import RUN_VARIABLE
from node_agent.rules.limits import Limits
from node_agent.shells.program import ProgramPlan

MAX_ARGUMENTS = 1024
MAX_ARGUMENT_CHARACTERS = 32 * 1024
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SHELL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
ID_VARIABLE = "TRUNKLINE_SHELL_ID"
_NO_SHELLS = frozenset({"nologin", "false", "true", "sync"})
_FALLBACKS = ("/bin/bash", "/bin/sh")


class RequestRefused(Exception):  # noqa: N818 - an expected refusal
    """The body does not say what shell to open; the message says what is wrong with it."""


class ShellRequest(BaseModel):
    """A shell as it was asked for: without `argv` the user's login shell; with `terminal` on one of that size."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    argv: list[Annotated[str, Field(max_length=MAX_ARGUMENT_CHARACTERS)]] = Field(
        default_factory=list, max_length=MAX_ARGUMENTS
    )
    terminal: bool = True
    term: str = Field(default="xterm-256color", pattern=r"^[A-Za-z0-9][A-Za-z0-9.+_-]{0,63}$")
    rows: int = Field(default=24, ge=1, le=65535)
    columns: int = Field(default=80, ge=1, le=65535)
    user: str | None = Field(default=None, pattern=r"^[a-z_][a-z0-9_-]{0,31}\$?$")

    @field_validator("argv")
    @classmethod
    def _argv(cls, value: list[str]) -> list[str]:
        if value and not value[0]:
            raise ValueError("the program's name is empty")
        for one in value:
            if "\0" in one:
                raise ValueError("must not contain NUL")
            try:
                one.encode("utf-8")
            except UnicodeEncodeError:
                raise ValueError("must be text that UTF-8 can carry") from None
        return value

    def fingerprint(self) -> str:
        """Return a hash by which two requests are the same."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def parse_request(body: bytes) -> ShellRequest:
    """Check the body of an opening.

    Raises:
        RequestRefused: it is not JSON, has a name twice, or a field that is unknown or wrong.
    """
    try:
        return ShellRequest.model_validate(read_document(body or b"{}"))
    except ValidationError as error:
        raise RequestRefused(problems_of(error)) from None
    except DocumentRefused as error:
        raise RequestRefused(str(error)) from None


def plan_of(request: ShellRequest, account: Account, login_shell: str, shell_id: str, limits: Limits) -> ProgramPlan:
    """Return what is started for a request; nothing of the agent's environment is in it."""
    shell, run_id = login_shell_of(login_shell), secrets.token_hex(16)
    environment = {
        "PATH": SEARCH_PATH,
        "HOME": account.home,
        "USER": account.name,
        "LOGNAME": account.name,
        "SHELL": shell,
        "LANG": "C.UTF-8",
        ID_VARIABLE: shell_id,
        RUN_VARIABLE: run_id,
    }
    if request.terminal:
        environment["TERM"] = request.term
    return ProgramPlan(
        program=request.argv[0] if request.argv else shell,
        # By the dash a shell knows that it is to read the profile (login(1)).
        argv=request.argv or [f"-{os.path.basename(shell)}"],  # noqa: PTH119 - a name, not a place
        environment=environment,
        directory=account.home,
        terminal=request.terminal,
        switched=account.switched,
        uid=account.uid,
        gid=account.gid,
        groups=list(account.groups),
        run_id=run_id,
        limits=limits.model_dump(),
    )


def login_shell_of(entry: str) -> str:
    """Return the shell that a user's entry names, or one that is there where the entry keeps people from logging in.

    Whether there may be a shell is the policy's matter, which has been asked; system users have none in their entry.
    """
    if entry and os.path.basename(entry) not in _NO_SHELLS and os.access(entry, os.X_OK):  # noqa: PTH119
        return entry
    return next((shell for shell in _FALLBACKS if os.access(shell, os.X_OK)), "/bin/sh")
