"""Claims: what each kind of token must state, in which form, and for how long at most.

One table says it for all kinds; issuing and verifying go through the same functions, so that nothing can be issued
that would not be accepted.
"""

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from certs.bindings import BINDING_CLAIMS, Binding, read_binding, read_digest
from certs.errors import CertificateError, TokenError, TokenErrorCode
from certs.scopes import Scopes, parse_scopes
from certs.spiffe import IdentityRole, SpiffeId, control_plane_id

LEEWAY_SECONDS = 60
"""How far apart the clocks of issuer and verifier may be."""
MAX_TIME = 253402300799
"""The last second of the year 9999."""
AGENT_PORTS = frozenset({80, 443})
"""Ports that are the agent's own API, which a workspace token never opens."""


class TokenKind(StrEnum):
    """The kinds of tokens; the value is the `typ` of the header."""

    LISTEN = "tl-listen+jwt"
    CALL = "tl-call+jwt"
    WORKSPACE = "tl-workspace+jwt"
    ASSERTION = "tl-assertion+jwt"


LONGEST_LIFE_SECONDS: Mapping[TokenKind, int] = {
    TokenKind.LISTEN: 24 * 3600,
    TokenKind.CALL: 15 * 60,
    TokenKind.WORKSPACE: 30 * 86400,
    TokenKind.ASSERTION: 60,
}
"""Longest time from `iat` to `exp` of each kind; held to when issuing and when verifying."""

_AUDIENCE_ROLE = {
    TokenKind.LISTEN: IdentityRole.RELAYS,
    TokenKind.CALL: IdentityRole.NODE,
    TokenKind.WORKSPACE: IdentityRole.WORKSPACE,
    TokenKind.ASSERTION: IdentityRole.NODE,
}
_TOKEN_ID = re.compile(r"[A-Za-z0-9._~-]{1,64}", re.ASCII)
_SUBJECT = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)
_NO_SCOPES = Scopes(frozenset(), frozenset())


@dataclass(frozen=True, slots=True)
class TokenClaims:
    """The claims of a token whose signature was verified. Times are seconds since the epoch.

    `workspace_id` and `node_id` are ids, `workspace` and `node` names (absent from assertions).
    `certificate_thumbprint` (listen) is the leaf that the token is bound to. `origin_token_id` (assertion) is the
    workspace token behind it and `signer_serial` the relay's certificate: revocation looks at both. `binding` (call)
    is the one request that the token is good for, where it is for one only.
    """

    kind: TokenKind
    token_id: str
    subject: str
    issuer: str
    audience: str
    issued_at: int
    expires_at: int
    scopes: Scopes = _NO_SCOPES
    not_before: int = 0
    workspace_id: str | None = None
    node_id: str | None = None
    workspace: str | None = None
    node: str | None = None
    certificate_thumbprint: str | None = None
    binding: Binding | None = None
    origin_token_id: str | None = None
    key_id: str | None = None
    signer_serial: str | None = None

    def is_live(self, now: float, leeway: float = LEEWAY_SECONDS) -> bool:
        """Whether the token is valid at `now`; to be asked for each stream, also of claims from a cache."""
        return self.issued_at - leeway <= now < self.expires_at + leeway and self.not_before - leeway <= now


def read_claims(
    kind: TokenKind,
    claims: Mapping[str, Any],
    *,
    trust_domain: str,
    issuer: SpiffeId,
    key_id: str | None = None,
    signer_serial: str | None = None,
) -> TokenClaims:
    """The claims of a token of this kind, each in its form; `issuer` is who signed it.

    Whether the token is live is not asked here. `key_id` or `signer_serial` tell which credential signed it.

    Raises:
        TokenError: WRONG_ISSUER, WRONG_AUDIENCE, LIFETIME, or BAD_CLAIMS naming the claim.
    """
    if claims.get("iss") != str(issuer):
        raise TokenError(TokenErrorCode.WRONG_ISSUER, "the token is of another issuer")
    audience = _audience(kind, claims.get("aud"), trust_domain)
    issued_at, expires_at, not_before = _times(kind, claims)
    if kind is not TokenKind.CALL:
        _refuse_binding(claims)
    return TokenClaims(
        kind=kind,
        token_id=_matching(claims, "jti", _TOKEN_ID),
        subject=_matching(claims, "sub", _SUBJECT),
        # Those of thousands of tokens are the same, and are kept for as long as the links that stand on them.
        issuer=sys.intern(str(issuer)),
        audience=sys.intern(str(audience)),
        issued_at=issued_at,
        expires_at=expires_at,
        not_before=not_before,
        key_id=key_id,
        signer_serial=signer_serial,
        **_SPECIFIC[kind](claims, audience),
    )


def check_live(claims: TokenClaims, now: float, leeway: float) -> None:
    """Refuse claims that are not valid at `now`.

    Raises:
        TokenError: NOT_YET_VALID or EXPIRED.
    """
    if claims.is_live(now, leeway):
        return
    if now >= claims.expires_at + leeway:
        raise TokenError(TokenErrorCode.EXPIRED, "the token has expired")
    raise TokenError(TokenErrorCode.NOT_YET_VALID, "the token is not valid yet: compare the clocks")


def kind_of(media_type: str) -> TokenKind:
    """The kind that a header's `typ` names.

    Raises:
        TokenError: WRONG_KIND when it names none.
    """
    try:
        return TokenKind(media_type)
    except ValueError as error:
        raise TokenError(TokenErrorCode.WRONG_KIND, "the token is of an unknown kind") from error


def issuer_of_tokens(trust_domain: str) -> SpiffeId:
    """Who issues listen, call and workspace tokens: the control plane."""
    return control_plane_id(trust_domain)


def _audience(kind: TokenKind, value: object, trust_domain: str) -> SpiffeId:
    if not isinstance(value, str):
        raise _bad("aud")
    try:
        audience = SpiffeId.parse(value)
    except CertificateError as error:
        raise _bad("aud") from error
    if audience.trust_domain != trust_domain or audience.role is not _AUDIENCE_ROLE[kind]:
        raise TokenError(TokenErrorCode.WRONG_AUDIENCE, "the token's audience is not one of its kind")
    return audience


def _times(kind: TokenKind, claims: Mapping[str, Any]) -> tuple[int, int, int]:
    issued_at, expires_at = _time(claims, "iat"), _time(claims, "exp")
    not_before = _time(claims, "nbf") if "nbf" in claims else issued_at
    if not 0 < expires_at - issued_at <= LONGEST_LIFE_SECONDS[kind]:
        raise TokenError(TokenErrorCode.LIFETIME, "the token's lifetime is out of range for its kind")
    return issued_at, expires_at, not_before


def _time(claims: Mapping[str, Any], name: str) -> int:
    value = claims.get(name)
    if type(value) is not int or not 0 < value <= MAX_TIME:
        raise _bad(name)
    return value


def _listen(claims: Mapping[str, Any], _: SpiffeId) -> dict[str, Any]:
    binding = claims.get("cnf")
    if not isinstance(binding, dict):
        raise _bad("cnf")
    return {
        "workspace_id": _matching(claims, "workspace_id", _ID),
        "node_id": _matching(claims, "node_id", _ID),
        "workspace": _matching(claims, "workspace", _LABEL),
        "node": _matching(claims, "node", _LABEL),
        "certificate_thumbprint": read_digest(binding, "x5t#S256"),
    }


def _call(claims: Mapping[str, Any], audience: SpiffeId) -> dict[str, Any]:
    scopes = _scopes(claims)
    return {
        "workspace_id": audience.workspace_id,
        "node_id": audience.node_id,
        "workspace": _matching(claims, "workspace", _LABEL),
        "node": _matching(claims, "node", _LABEL),
        "scopes": scopes,
        "binding": read_binding(claims, scopes),
    }


def _workspace(claims: Mapping[str, Any], audience: SpiffeId) -> dict[str, Any]:
    return {
        "workspace_id": audience.workspace_id,
        "workspace": _matching(claims, "workspace", _LABEL),
        "scopes": _shared_ports(claims),
    }


def _assertion(claims: Mapping[str, Any], audience: SpiffeId) -> dict[str, Any]:
    return {
        "workspace_id": audience.workspace_id,
        "node_id": audience.node_id,
        "scopes": _shared_ports(claims),
        "origin_token_id": _matching(claims, "origin_jti", _TOKEN_ID),
    }


_SPECIFIC: Mapping[TokenKind, Callable[[Mapping[str, Any], SpiffeId], dict[str, Any]]] = {
    TokenKind.LISTEN: _listen,
    TokenKind.CALL: _call,
    TokenKind.WORKSPACE: _workspace,
    TokenKind.ASSERTION: _assertion,
}


def _shared_ports(claims: Mapping[str, Any]) -> Scopes:
    scopes = _scopes(claims)
    if scopes.names or scopes.ports & AGENT_PORTS:
        raise _bad("scope")
    return scopes


def _scopes(claims: Mapping[str, Any]) -> Scopes:
    value = claims.get("scope")
    if not isinstance(value, str):
        raise _bad("scope")
    try:
        return parse_scopes(value)
    except ValueError as error:
        raise _bad("scope") from error


def _refuse_binding(claims: Mapping[str, Any]) -> None:
    for name in sorted(BINDING_CLAIMS & claims.keys()):
        raise _bad(name)


def _matching(claims: Mapping[str, Any], name: str, grammar: re.Pattern[str]) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not grammar.fullmatch(value):
        raise _bad(name)
    return value


def _bad(name: str) -> TokenError:
    return TokenError(TokenErrorCode.BAD_CLAIMS, f"the token's claim {name} is missing or malformed")
