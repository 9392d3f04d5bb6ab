"""Assertions: with one, a relay tells a node which workspace token stands behind a stream, without showing the token.

The relay signs with the key of its own SVID and sends the chain along (`x5c`), so the node needs nothing but the
roots and revocations of its trust document. The claims bind the node, the port, the caller and the origin token, for
a minute at most: a node that is handed one can use it nowhere else.
"""

from certs.claims import LONGEST_LIFE_SECONDS, TokenClaims, TokenKind, read_claims
from certs.errors import CertificateError, TokenError, TokenErrorCode
from certs.identities import Identity
from certs.jose import MAX_TOKEN_BYTES, chain_member, write_compact
from certs.spiffe import IdentityRole, SpiffeId
from certs.tokens import IssuedToken, common_claims


class AssertionSigner:
    """Signs assertions with a relay's identity."""

    def __init__(self, identity: Identity) -> None:
        self._issuer = identity.spiffe_id
        if self._issuer.role is not IdentityRole.RELAY:
            msg = "only a relay signs assertions"
            raise CertificateError(msg)
        self._key = identity.signing_key()
        self._header = {"typ": TokenKind.ASSERTION.value, "x5c": chain_member(identity.chain.certificates[:2])}
        self._serial = identity.serial

    def issue(self, origin: TokenClaims, node: SpiffeId, port: int, *, now: float) -> IssuedToken:
        """State to `node` that the holder of the workspace token `origin` opens `port`.

        Raises:
            TokenError: `origin` is no workspace token, is for another workspace, or does not name the port.
        """
        if origin.kind is not TokenKind.WORKSPACE or origin.workspace_id != node.workspace_id:
            raise TokenError(TokenErrorCode.WRONG_AUDIENCE, "the workspace token is not for this node's workspace")
        if not origin.scopes.allows_port(port):
            raise TokenError(TokenErrorCode.BAD_CLAIMS, "the workspace token does not name this port")
        lifetime = max(1, min(LONGEST_LIFE_SECONDS[TokenKind.ASSERTION], origin.expires_at - int(now)))
        claims = {
            **common_claims(self._issuer, now, lifetime),
            "sub": origin.subject,
            "aud": str(node),
            "scope": f"port:{port}",
            "origin_jti": origin.token_id,
        }
        read = read_claims(
            TokenKind.ASSERTION,
            claims,
            trust_domain=self._issuer.trust_domain,
            issuer=self._issuer,
            signer_serial=self._serial,
        )
        text = write_compact(self._header, claims, self._key)
        if len(text) > MAX_TOKEN_BYTES:
            raise TokenError(TokenErrorCode.TOO_LARGE, "the relay's certificate chain does not fit into an assertion")
        return IssuedToken(text, read)
