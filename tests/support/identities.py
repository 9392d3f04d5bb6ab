"""Ready-made identities for tests: an authority, SVIDs of every role, token signer and verifier, TLS contexts."""

import time
from pathlib import Path

from certs.assertions import AssertionSigner
from certs.authority import Authority
from certs.identities import Identity, SpiffeId, build_csr, control_plane_id, node_id, relay_id, workspace_id
from certs.keyfiles import generate_key
from certs.keyring import KeyRing, TokenKey, token_key
from certs.signing import LocalSigningKey
from certs.tls import ServerTls, TlsContext, client_context
from certs.tokens import Binding, TokenSigner, TokenVerifier
from certs.trust import Revocations, TrustDocument, TrustLock, sign_trust_document

TRUST_DOMAIN = "trunkline.test"
WORKSPACE_ID = "ws-finance"
WORKSPACE = "finance"
NODE_ID = "nd-one"
NODE = "vm-1"


def none_ended(serial: str) -> None:
    """What a trust document says of certificates, none of which it ends."""


class IdentityKit:
    """An authority in `directory` and everything it issues. All times are relative to `now`."""

    def __init__(self, directory: Path, *, trust_domain: str = TRUST_DOMAIN, now: float | None = None) -> None:
        self.directory = directory
        self.trust_domain = trust_domain
        self.now = time.time() if now is None else now
        self.authority = Authority.create(directory / "authority", trust_domain, now=self.now)
        self.roots = self.authority.roots
        self.ca_file = directory / "authority" / "roots.pem"
        self.token_signing_key = LocalSigningKey(generate_key())
        self.token_key: TokenKey = token_key(self.token_signing_key.public_key())
        self.keyring = KeyRing([self.token_key], self.roots)
        self.signer = TokenSigner(self.token_signing_key, self.token_key.key_id, control_plane_id(trust_domain))
        self.control_plane = self.issue_control_plane()

    def issue_control_plane(self, *dns_names: str) -> Identity:
        """A control plane's SVID; for `localhost` unless other names are given."""
        key = generate_key()
        names = dns_names or ("localhost",)
        return Identity(key, self.authority.issue_control_plane(build_csr(key), names, now=self.now))

    def issue_relay(self, relay: str = "rl-one", *dns_names: str, lifetime_seconds: float = 86400) -> Identity:
        """A relay's SVID; for `localhost` unless other names are given."""
        key = generate_key()
        spiffe_id = relay_id(self.trust_domain, relay)
        names = dns_names or ("localhost",)
        return Identity(
            key, self.authority.issue_relay(build_csr(key), spiffe_id, names, lifetime_seconds, now=self.now)
        )

    def issue_node(
        self, workspace: str = WORKSPACE_ID, node: str = NODE_ID, *, lifetime_seconds: float = 86400
    ) -> Identity:
        """A node's SVID."""
        key = generate_key()
        spiffe_id = node_id(self.trust_domain, workspace, node)
        return Identity(key, self.authority.issue_node(build_csr(key), spiffe_id, lifetime_seconds, now=self.now))

    def node_spiffe_id(self, workspace: str = WORKSPACE_ID, node: str = NODE_ID) -> SpiffeId:
        """The SPIFFE id of a node."""
        return node_id(self.trust_domain, workspace, node)

    def verifier(self, **options: int) -> TokenVerifier:
        """A verifier that trusts this kit's token key and roots."""
        return TokenVerifier(self.keyring, self.trust_domain, **options)

    def listen_token(self, identity: Identity, *, workspace: str = WORKSPACE, node: str = NODE) -> str:
        """A listen token bound to a node's SVID."""
        issued = self.signer.issue_listen(
            identity.spiffe_id,
            workspace=workspace,
            node_name=node,
            certificate_thumbprint=identity.thumbprint,
            now=self.now,
        )
        return issued.text

    def call_token(
        self,
        *scopes: str,
        target: SpiffeId | None = None,
        workspace: str = WORKSPACE,
        node: str = NODE,
        binding: Binding | None = None,
        lifetime_seconds: float = 900,
        subject: str = "operator:test",
    ) -> str:
        """A call token for `target`, by default the node of this module's constants."""
        issued = self.signer.issue_call(
            target or self.node_spiffe_id(),
            subject=subject,
            workspace=workspace,
            node_name=node,
            scopes=scopes or ("command:submit", "command:read", "health:read", "metrics:read"),
            now=self.now,
            lifetime_seconds=lifetime_seconds,
            binding=binding,
        )
        return issued.text

    def workspace_token(self, *ports: int, workspace_id_: str = WORKSPACE_ID, workspace: str = WORKSPACE) -> str:
        """A workspace token for these ports, 9100 unless others are given."""
        issued = self.signer.issue_workspace(
            workspace_id(self.trust_domain, workspace_id_),
            subject="operator:test",
            workspace=workspace,
            ports=ports or (9100,),
            now=self.now,
        )
        return issued.text

    def trust_document(
        self, sequence: int = 1, *, revocations: Revocations | None = None, locks: tuple[TrustLock, ...] = ()
    ) -> str:
        """A signed trust document with this kit's roots and token key."""
        document = TrustDocument(
            trust_domain=self.trust_domain,
            sequence=sequence,
            issued_at=int(self.now),
            roots=self.roots,
            token_keys=self.keyring.keys,
            revocations=revocations or Revocations(),
            locks=locks,
            name_suffix="trunk.internal",
        )
        return sign_trust_document(document, self.control_plane)

    def assertion_signer(self, relay: Identity) -> AssertionSigner:
        """Signs assertions as `relay`."""
        return AssertionSigner(relay)

    def server_tls(self, identity: Identity | None = None, *, client_certificates: str = "optional") -> ServerTls:
        """A server's TLS that asks for SVIDs of this kit; presents the control plane's unless told otherwise."""
        chosen = identity or self.control_plane
        return ServerTls(chosen, self.roots, client_certificates)  # type: ignore[arg-type]

    def client_tls(self, identity: Identity | None = None) -> TlsContext:
        """A client context that trusts this kit's root."""
        return client_context(self.roots, identity=identity)
