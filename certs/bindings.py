"""Bindings: the one request that a call token is good for, whoever carries it.

A relay sees the tokens of the calls that it carries. A token that names the body and the command of its call lets it
do nothing but that call; and since all tokens of one submit say until when there may be any, the node knows how long
it has to remember that the command was taken.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from certs.encoding import decode_base64url, encode_base64url
from certs.errors import TokenError, TokenErrorCode
from certs.scopes import COMMAND_SUBMIT, Scopes

BINDING_CLAIMS = frozenset({"body_sha256", "command_id", "submit_until"})
"""The claims of a binding; no token but a call token may have one of them."""
COMMAND_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
"""The grammar of command ids."""
LONGEST_SUBMIT_SECONDS = 7200
"""Longest time from a token's `iat` to its `submit_until`: an hour of delivery, and the last token's life."""

_DIGEST_BYTES = 32
_BOUND_SCOPES = Scopes(frozenset({COMMAND_SUBMIT}), frozenset())


@dataclass(frozen=True, slots=True)
class Binding:
    """What a call token is bound to.

    `body_sha256` is the base64url SHA-256 of the request's content, `command_id` the command that its path names.
    `submit_until`, in seconds since the epoch, is when the last token of this submit, however often sent, has expired.
    """

    body_sha256: str
    command_id: str | None = None
    submit_until: int | None = None

    @classmethod
    def of_body(cls, body: bytes, command_id: str | None = None, submit_until: int | None = None) -> "Binding":
        """Return the binding to this content."""
        return cls(encode_base64url(hashlib.sha256(body).digest()), command_id, submit_until)

    @classmethod
    def of_stdin(cls, content: bytes, command_id: str, offset: int, *, complete: bool) -> "Binding":
        """Return the binding to a part of a standard input that follows its command.

        It covers where the part belongs and whether it is the last, so that whoever carries it can neither move nor end
        anything; and since what is digested is no submission, it is good for nothing else.
        """
        return cls.of_body(_stdin_form(content, offset, complete=complete), command_id)

    def covers(self, body: bytes) -> bool:
        """Whether this is the content that is meant."""
        return hmac.compare_digest(Binding.of_body(body).body_sha256, self.body_sha256)

    def covers_stdin(self, content: bytes, offset: int, *, complete: bool) -> bool:
        """Whether this is the part of a standard input that is meant; see `of_stdin`."""
        return self.covers(_stdin_form(content, offset, complete=complete))

    def to_claims(self) -> dict[str, object]:
        """Return the claims of a token that is bound so."""
        claims = {name: getattr(self, name) for name in sorted(BINDING_CLAIMS)}
        return {name: value for name, value in claims.items() if value is not None}


def _stdin_form(content: bytes, offset: int, *, complete: bool) -> bytes:
    return b"stdin %d %d\n" % (offset, complete) + content


def read_binding(claims: Mapping[str, Any], scopes: Scopes) -> Binding | None:
    """Return what a call token with these claims and scopes is bound to; None where it is bound to nothing.

    A bound token has the scope `command:submit` and no other, so that nothing else can be done with it.

    Raises:
        TokenError: BAD_CLAIMS; a claim has not its form, or stands without the one that it narrows.
    """
    if not BINDING_CLAIMS & claims.keys():
        return None
    if scopes != _BOUND_SCOPES:
        raise _bad("scope")
    body_sha256 = read_digest(claims, "body_sha256")
    if "command_id" not in claims:
        if "submit_until" in claims:
            raise _bad("command_id")
        return Binding(body_sha256)
    command_id = claims["command_id"]
    if not isinstance(command_id, str) or not COMMAND_ID.fullmatch(command_id):
        raise _bad("command_id")
    return Binding(body_sha256, command_id, _submit_until(claims) if "submit_until" in claims else None)


def read_digest(claims: Mapping[str, Any], name: str) -> str:
    """Return the claim of this name, a SHA-256 in base64url.

    Raises:
        TokenError: BAD_CLAIMS; it is missing or malformed.
    """
    value = claims.get(name)
    try:
        if isinstance(value, str) and len(decode_base64url(value)) == _DIGEST_BYTES:
            return value
    except ValueError as error:
        raise _bad(name) from error
    raise _bad(name)


def _submit_until(claims: Mapping[str, Any]) -> int:
    """Return the claim; `iat` and `exp` have been checked."""
    value = claims["submit_until"]
    if type(value) is not int or not claims["exp"] <= value <= claims["iat"] + LONGEST_SUBMIT_SECONDS:
        raise _bad("submit_until")
    return value


def _bad(name: str) -> TokenError:
    return TokenError(TokenErrorCode.BAD_CLAIMS, f"the token's claim {name} is missing or malformed")
