"""SPIFFE ids of this project: the strict grammar, parsed to parts and written back.

    spiffe://<trust-domain>/control-plane
    spiffe://<trust-domain>/relay                                      every relay: the audience of listen tokens
    spiffe://<trust-domain>/relay/<relay-id>
    spiffe://<trust-domain>/workspace/<workspace-id>                   the audience of workspace tokens
    spiffe://<trust-domain>/workspace/<workspace-id>/node/<node-id>

Paths hold immutable ids, never names. Exactly one spelling is accepted for each identity: lower case, no percent
escapes, no empty or dotted segment, no port, query or fragment (SPIFFE-ID section 2).
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from certs.errors import CertificateError

MAX_ID_BYTES = 512
"""Longest SPIFFE id accepted; ours need about 120, the specification allows 2048."""

_DOMAIN = r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?"
_SEGMENT = r"[a-z0-9](?:[a-z0-9-]{0,62})"
_DOMAIN_GRAMMAR = re.compile(_DOMAIN, re.ASCII)
_SEGMENT_GRAMMAR = re.compile(_SEGMENT, re.ASCII)
_ID_GRAMMAR = re.compile(
    rf"spiffe://(?P<domain>{_DOMAIN})/(?:"
    rf"(?P<control_plane>control-plane)"
    rf"|(?P<relays>relay)(?:/(?P<relay>{_SEGMENT}))?"
    rf"|workspace/(?P<workspace>{_SEGMENT})(?:/node/(?P<node>{_SEGMENT}))?"
    rf")",
    re.ASCII,
)


class IdentityRole(StrEnum):
    """What a SPIFFE id names."""

    CONTROL_PLANE = "control-plane"
    RELAY = "relay"
    RELAYS = "relays"
    WORKSPACE = "workspace"
    NODE = "node"


@dataclass(frozen=True, slots=True)
class SpiffeId:
    """One identity of a trust domain; `str()` gives its URI."""

    trust_domain: str
    role: IdentityRole
    relay_id: str | None = None
    workspace_id: str | None = None
    node_id: str | None = None

    def __str__(self) -> str:
        base = f"spiffe://{self.trust_domain}"
        match self.role:
            case IdentityRole.CONTROL_PLANE:
                return f"{base}/control-plane"
            case IdentityRole.RELAYS:
                return f"{base}/relay"
            case IdentityRole.RELAY:
                return f"{base}/relay/{self.relay_id}"
            case IdentityRole.WORKSPACE:
                return f"{base}/workspace/{self.workspace_id}"
            case IdentityRole.NODE:
                return f"{base}/workspace/{self.workspace_id}/node/{self.node_id}"

    @staticmethod
    def parse(text: str) -> "SpiffeId":
        """The identity that `text` spells.

        Raises:
            CertificateError: `text` is not exactly one of the forms above. The message does not repeat it.
        """
        matched = _ID_GRAMMAR.fullmatch(text) if len(text) <= MAX_ID_BYTES else None
        if matched is None:
            msg = "not a SPIFFE id of this project"
            raise CertificateError(msg)
        part = matched.groupdict()
        return SpiffeId(_domain(part["domain"]), _role(part), part["relay"], part["workspace"], part["node"])


def control_plane_id(trust_domain: str) -> SpiffeId:
    """The control plane of `trust_domain`.

    Raises:
        CertificateError: the trust domain is malformed.
    """
    return SpiffeId(_domain(trust_domain), IdentityRole.CONTROL_PLANE)


def relays_id(trust_domain: str) -> SpiffeId:
    """All relays of `trust_domain`: the audience of listen tokens.

    Raises:
        CertificateError: the trust domain is malformed.
    """
    return SpiffeId(_domain(trust_domain), IdentityRole.RELAYS)


def relay_id(trust_domain: str, relay: str) -> SpiffeId:
    """The relay with the id `relay`.

    Raises:
        CertificateError: a part is malformed.
    """
    return SpiffeId(_domain(trust_domain), IdentityRole.RELAY, relay_id=_segment(relay))


def workspace_id(trust_domain: str, workspace: str) -> SpiffeId:
    """The workspace with the id `workspace`: the audience of workspace tokens.

    Raises:
        CertificateError: a part is malformed.
    """
    return SpiffeId(_domain(trust_domain), IdentityRole.WORKSPACE, workspace_id=_segment(workspace))


def node_id(trust_domain: str, workspace: str, node: str) -> SpiffeId:
    """The node with the id `node` of the workspace with the id `workspace`.

    Raises:
        CertificateError: a part is malformed.
    """
    return SpiffeId(_domain(trust_domain), IdentityRole.NODE, workspace_id=_segment(workspace), node_id=_segment(node))


def _domain(text: str) -> str:
    if not _DOMAIN_GRAMMAR.fullmatch(text) or ".." in text:
        msg = "a trust domain is a lower-case DNS name"
        raise CertificateError(msg)
    return text


def _segment(text: str) -> str:
    if not _SEGMENT_GRAMMAR.fullmatch(text):
        msg = "an id in a SPIFFE path is 1 to 63 of a-z, 0-9 and hyphen, not beginning with a hyphen"
        raise CertificateError(msg)
    return text


def _role(part: dict[str, str | None]) -> IdentityRole:
    if part["control_plane"]:
        return IdentityRole.CONTROL_PLANE
    if part["relays"]:
        return IdentityRole.RELAY if part["relay"] else IdentityRole.RELAYS
    return IdentityRole.NODE if part["node"] else IdentityRole.WORKSPACE
