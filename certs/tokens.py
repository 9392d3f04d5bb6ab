"""Tokens: issuing them, and verifying them with a bounded cache of what was verified before.

A verified token's claims are kept under its exact text until the key ring changes or it expires, but for listen tokens:
one is shown once for a link that lives for hours. The cache holds only what a signature vouched for, so nobody can fill
it with anything else; whether the claims are *live* is checked each time, and whether they are revoked and meant for
this destination is asked by the caller, each time too.
"""

import secrets
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from certs.bindings import Binding
from certs.chains import verify_chain
from certs.claims import (
    LEEWAY_SECONDS,
    LONGEST_LIFE_SECONDS,
    TokenClaims,
    TokenKind,
    check_live,
    issuer_of_tokens,
    kind_of,
    read_claims,
)
from certs.errors import CertificateError, TokenError, TokenErrorCode
from certs.expiring import ExpiringEntries
from certs.jose import CompactToken, chain_of, check_signature, parse_compact, write_compact
from certs.keyring import KeyRing
from certs.scopes import Scopes, parse_scopes, scopes_of
from certs.signing import SigningKey
from certs.spiffe import IdentityRole, SpiffeId, relays_id

__all__ = [
    "LEEWAY_SECONDS",
    "LONGEST_LIFE_SECONDS",
    "Binding",
    "IssuedToken",
    "Scopes",
    "TokenClaims",
    "TokenError",
    "TokenErrorCode",
    "TokenKind",
    "TokenSigner",
    "TokenVerifier",
    "new_token_id",
    "parse_scopes",
]

DEFAULT_CACHE_ENTRIES = 8192


@dataclass(frozen=True, slots=True, repr=False)
class IssuedToken:
    """A token that was just issued: its text, which is a secret, and its claims."""

    text: str
    claims: TokenClaims


class TokenSigner:
    """Issues listen, call and workspace tokens with one signing key of the control plane."""

    def __init__(self, key: SigningKey, key_id: str, issuer: SpiffeId) -> None:
        if issuer != issuer_of_tokens(issuer.trust_domain):
            msg = "only the control plane issues these tokens"
            raise CertificateError(msg)
        self.key_id = key_id
        self._key = key
        self._issuer = issuer

    def issue_listen(
        self,
        node: SpiffeId,
        *,
        workspace: str,
        node_name: str,
        certificate_thumbprint: str,
        now: float,
        lifetime_seconds: float = LONGEST_LIFE_SECONDS[TokenKind.LISTEN],
    ) -> IssuedToken:
        """Lets `node` attach at any relay, over a link that it opens with the leaf of this thumbprint.

        Raises:
            TokenError: a claim or the lifetime is out of bounds.
        """
        specific = {
            "sub": str(node),
            "aud": str(relays_id(node.trust_domain)),
            "workspace_id": node.workspace_id,
            "workspace": workspace,
            "node_id": node.node_id,
            "node": node_name,
            "cnf": {"x5t#S256": certificate_thumbprint},
        }
        return self._issue(TokenKind.LISTEN, specific, now, lifetime_seconds)

    def issue_call(
        self,
        node: SpiffeId,
        *,
        subject: str,
        workspace: str,
        node_name: str,
        scopes: Collection[str],
        now: float,
        lifetime_seconds: float = LONGEST_LIFE_SECONDS[TokenKind.CALL],
        binding: Binding | None = None,
    ) -> IssuedToken:
        """Lets `subject` call `node` with these scopes; with a `binding` only for the one request that it names.

        Raises:
            TokenError: a claim, a scope or the lifetime is out of bounds.
        """
        specific = {
            "sub": subject,
            "aud": str(node),
            "workspace": workspace,
            "node": node_name,
            "scope": _scope_claim(scopes),
            **(binding.to_claims() if binding is not None else {}),
        }
        return self._issue(TokenKind.CALL, specific, now, lifetime_seconds)

    def issue_workspace(
        self,
        workspace_spiffe_id: SpiffeId,
        *,
        subject: str,
        workspace: str,
        ports: Collection[int],
        now: float,
        lifetime_seconds: float = LONGEST_LIFE_SECONDS[TokenKind.WORKSPACE],
    ) -> IssuedToken:
        """Lets `subject` open these ports on nodes of the workspace whose owners share them.

        Raises:
            TokenError: a claim, a port (80 and 443 are never among them) or the lifetime is out of bounds.
        """
        specific = {
            "sub": subject,
            "aud": str(workspace_spiffe_id),
            "workspace": workspace,
            "scope": _scope_claim([f"port:{port}" for port in sorted(ports)]),
        }
        return self._issue(TokenKind.WORKSPACE, specific, now, lifetime_seconds)

    def _issue(self, kind: TokenKind, specific: dict[str, Any], now: float, lifetime_seconds: float) -> IssuedToken:
        claims = {**common_claims(self._issuer, now, lifetime_seconds), **specific}
        trust_domain = self._issuer.trust_domain
        read = read_claims(kind, claims, trust_domain=trust_domain, issuer=self._issuer, key_id=self.key_id)
        header = {"typ": kind.value, "kid": self.key_id}
        return IssuedToken(write_compact(header, claims, self._key), read)


class TokenVerifier:
    """Verifies tokens of one trust domain against a key ring, offline."""

    def __init__(
        self,
        keyring: KeyRing,
        trust_domain: str,
        cache_size: int = DEFAULT_CACHE_ENTRIES,
        *,
        leeway_seconds: float = LEEWAY_SECONDS,
    ) -> None:
        self._keyring = keyring
        self._trust_domain = trust_domain
        self._issuer = issuer_of_tokens(trust_domain)
        self._leeway = leeway_seconds
        self._cache: ExpiringEntries[TokenClaims] = ExpiringEntries(
            cache_size, lambda claims: claims.expires_at + leeway_seconds
        )
        self._known = self._cache.entries
        self._generation = keyring.generation

    def verify(
        self, token: str, kinds: TokenKind | Collection[TokenKind], now: float, *, audience: str | None = None
    ) -> TokenClaims:
        """The claims of `token`, which must be of one of `kinds`, live at `now` and, if given, for `audience`.

        Revocation is not asked here: see `TrustDocument.verdict`.

        Raises:
            TokenError: it is refused; never anything else, whatever the token is.
        """
        claims = self._known.get(token) if self._generation == self._keyring.generation else None
        if claims is None:
            claims = self._verify_anew(token, kinds, now)
        elif claims.kind is not kinds and claims.kind not in _collection(kinds):
            raise TokenError(TokenErrorCode.WRONG_KIND, "a token of this kind is not accepted here")
        if not claims.is_live(now, self._leeway):
            check_live(claims, now, self._leeway)
        if audience is not None and claims.audience != audience:
            raise TokenError(TokenErrorCode.WRONG_AUDIENCE, "the token is meant for another destination")
        return claims

    def _verify_anew(self, token: str, kinds: TokenKind | Collection[TokenKind], now: float) -> TokenClaims:
        parsed = parse_compact(token)
        kind = kind_of(parsed.media_type)
        if kind not in _collection(kinds):
            raise TokenError(TokenErrorCode.WRONG_KIND, "a token of this kind is not accepted here")
        claims = self._verify_assertion(parsed, now) if kind is TokenKind.ASSERTION else self._verify(parsed, kind)
        check_live(claims, now, self._leeway)
        if kind is not TokenKind.LISTEN:
            self._remember(token, claims, now)
        return claims

    def _verify(self, parsed: CompactToken, kind: TokenKind) -> TokenClaims:
        if "x5c" in parsed.header:
            raise TokenError(TokenErrorCode.MALFORMED, "a token of this kind carries no certificates")
        key = self._keyring.find(parsed.key_id) if parsed.key_id else None
        if key is None:
            raise TokenError(TokenErrorCode.UNKNOWN_KEY, "the token is signed with a key that is not trusted")
        claims = read_claims(
            kind, parsed.claims, trust_domain=self._trust_domain, issuer=self._issuer, key_id=key.key_id
        )
        check_signature(parsed, key.public_key)
        return claims

    def _verify_assertion(self, parsed: CompactToken, now: float) -> TokenClaims:
        chain = chain_of(parsed)
        try:
            relay = verify_chain(chain, self._keyring.roots, now)
        except CertificateError as error:
            raise TokenError(TokenErrorCode.BAD_CHAIN, "the assertion's certificate chain is not trusted") from error
        if relay.role is not IdentityRole.RELAY or relay.trust_domain != self._trust_domain:
            raise TokenError(TokenErrorCode.WRONG_ISSUER, "the assertion is not signed by a relay")
        claims = read_claims(
            TokenKind.ASSERTION,
            parsed.claims,
            trust_domain=self._trust_domain,
            issuer=relay,
            signer_serial=chain.serial,
        )
        check_signature(parsed, chain.leaf.public_key())
        return claims

    def _remember(self, token: str, claims: TokenClaims, now: float) -> None:
        if self._generation != self._keyring.generation:
            self._known.clear()
            self._generation = self._keyring.generation
        self._cache.put(token, claims, now)


def common_claims(issuer: SpiffeId, now: float, lifetime_seconds: float) -> dict[str, Any]:
    """The claims that all tokens have: `iss`, `iat`, `exp`, `jti`."""
    return {
        "iss": str(issuer),
        "iat": int(now),
        "exp": int(now) + int(lifetime_seconds),
        "jti": new_token_id(),
    }


def new_token_id() -> str:
    """A new `jti`: 128 random bits in hexadecimal."""
    return secrets.token_hex(16)


def _scope_claim(scopes: Collection[str]) -> str:
    try:
        return str(scopes_of(scopes))
    except ValueError as error:
        raise TokenError(TokenErrorCode.BAD_CLAIMS, f"the scopes are refused: {error}") from error


def _collection(kinds: TokenKind | Collection[TokenKind]) -> Collection[TokenKind]:
    return (kinds,) if isinstance(kinds, TokenKind) else kinds
