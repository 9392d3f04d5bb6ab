"""The content of a trust document, and its form as JSON claims: reading it strictly, writing it canonically.

Members that are unknown are ignored, as in every machine document, and so are locks of a kind that is unknown: who
refused a document for one would hear of no revocation any more. Those that are known must have their exact form. Roots
and keys of an unknown kind are refused: a rotation takes who has a document in force for one who trusts what is in it.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cryptography import x509

from certs.chains import MAX_ROOTS, certificates_from_pem, certificates_to_pem
from certs.claims import MAX_TIME, TokenClaims
from certs.errors import CertificateError, TrustError
from certs.keyring import TokenKey, describe_token_key, read_token_key
from certs.spiffe import control_plane_id

FORMAT_VERSION = 1
MAX_TOKEN_KEYS = 64
MAX_SEQUENCE = 2**53 - 1
MAX_RELAYS = 256
MAX_RENEW_WITHIN_SECONDS = 86400
LOCK_KINDS = frozenset({"token", "node", "certificate", "workspace"})

_NAME = re.compile(r"[A-Za-z0-9._~-]{1,64}", re.ASCII)
_SUFFIX = re.compile(r"[a-z0-9.-]{0,200}", re.ASCII)
_RELAY = re.compile(r"https://[A-Za-z0-9.:\[\]-]{1,262}", re.ASCII)
_MAX_REASON = 500


@dataclass(frozen=True, slots=True)
class TrustLock:
    """A revocation that ends by itself: of a `token`, `node`, `certificate` or `workspace`, with its reason."""

    kind: str
    id: str
    expires_at: int
    reason: str = ""


class TrustVerdict(NamedTuple):
    """Why a credential is no good: the revocation, or the lock, of this `kind` and `id`."""

    locked: bool
    kind: str
    id: str


CertificateVerdict = Callable[[str], TrustVerdict | None]
"""What has ended the use of the certificate with this serial number, by the document in force."""


@dataclass(frozen=True, slots=True)
class Revocations:
    """What is revoked: token ids and certificate serials until they would have expired anyway, nodes and workspaces.

    Serial numbers are lower-case hexadecimal without leading zeros, times seconds since the epoch.
    """

    token_ids: Mapping[str, int] = field(default_factory=dict)
    certificates: Mapping[str, int] = field(default_factory=dict)
    nodes: Collection[str] = frozenset()
    workspaces: Collection[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Retirement:
    """What is trusted still and to be left, and what was left: the parts of a rotation that machines act on.

    Attributes:
        roots: SHA-256 (lower-case hexadecimal) of trusted roots whose certificates are to be renewed.
        token_keys: ids of trusted keys whose listen tokens are to be renewed.
        left_token_keys: ids of keys that are trusted no more, though nothing that stands on them has to be cut.
        renew_within_seconds: over how long machines spread their renewals.
    """

    roots: Collection[str] = frozenset()
    token_keys: Collection[str] = frozenset()
    left_token_keys: Collection[str] = frozenset()
    renew_within_seconds: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustDocument:
    """The content of a trust document. `sequence` grows with each change; `issued_at` is seconds since the epoch.

    `relays` are the addresses of the relays in service, at most `MAX_RELAYS`; None where the document has no such list.
    """

    trust_domain: str
    sequence: int
    issued_at: int
    roots: Sequence[x509.Certificate]
    token_keys: Sequence[TokenKey]
    revocations: Revocations = field(default_factory=Revocations)
    locks: Sequence[TrustLock] = ()
    name_suffix: str = ""
    relays: Sequence[str] | None = None
    retirement: Retirement = Retirement()
    version: int = FORMAT_VERSION

    def verdict(self, claims: TokenClaims, now: float, *, certificate_serial: str | None = None) -> TrustVerdict | None:
        """What ends the use of a token at `now`: its own revocation or lock, or that of what it stands on.

        `certificate_serial` is that of the connection the token came over, where it is bound to one. A revocation goes
        before a lock. Constant time in the number of revocations; locks are few and looked at in turn.
        """
        revoked = self.revocations
        ended: Mapping[str, Collection[str]] = {
            "token": revoked.token_ids,
            "certificate": revoked.certificates,
            "node": revoked.nodes,
            "workspace": revoked.workspaces,
        }
        named = _named(claims, certificate_serial)
        for kind, name in named:
            if name in ended[kind]:
                return TrustVerdict(False, kind, str(name))
        for lock in self.locks:
            if lock.expires_at > now and (lock.kind, lock.id) in named:
                return TrustVerdict(True, lock.kind, lock.id)
        return None

    def certificate_verdict(self, serial: str, now: float) -> TrustVerdict | None:
        """What ends the use of a certificate at `now`, whosever it is: its own revocation or lock."""
        if serial in self.revocations.certificates:
            return TrustVerdict(False, "certificate", serial)
        locked = any(lock.expires_at > now and (lock.kind, lock.id) == ("certificate", serial) for lock in self.locks)
        return TrustVerdict(True, "certificate", serial) if locked else None


def is_relay_address(url: str) -> bool:
    """Whether a trust document can name a relay by this URL: `https://`, a host that is no wildcard, perhaps a port."""
    return _RELAY.fullmatch(url) is not None


def _named(claims: TokenClaims, certificate_serial: str | None) -> tuple[tuple[str, str | None], ...]:
    """What a token stands on, as revocations and locks name it."""
    return (
        ("token", claims.token_id),
        ("token", claims.origin_token_id),
        ("certificate", claims.signer_serial),
        ("certificate", certificate_serial),
        ("node", claims.node_id),
        ("workspace", claims.workspace_id),
    )


def write_trust_claims(document: TrustDocument) -> dict[str, Any]:
    """The document as JSON claims, in one form only for equal documents."""
    revoked = document.revocations
    relays = {} if document.relays is None else {"relays": list(document.relays)}
    return {
        "version": document.version,
        "trust_domain": document.trust_domain,
        "sequence": document.sequence,
        "issued_at": document.issued_at,
        "roots": [certificates_to_pem([root]) for root in document.roots],
        "token_keys": [describe_token_key(key) for key in document.token_keys],
        "revocations": {
            "token_ids": dict(revoked.token_ids),
            "certificates": dict(revoked.certificates),
            "nodes": sorted(revoked.nodes),
            "workspaces": sorted(revoked.workspaces),
        },
        "locks": [
            {"kind": lock.kind, "id": lock.id, "expires_at": lock.expires_at, "reason": lock.reason}
            for lock in document.locks
        ],
        "name_suffix": document.name_suffix,
        **relays,
        **_write_retirement(document.retirement),
    }


def read_trust_claims(claims: Mapping[str, Any]) -> TrustDocument:
    """The document that these claims describe.

    Raises:
        TrustError: another format version, or a member that is missing or malformed.
    """
    if claims.get("version") != FORMAT_VERSION:
        msg = "the trust document's format is of another version"
        raise TrustError(msg)
    revoked = _object(claims, "revocations")
    return TrustDocument(
        trust_domain=_trust_domain(claims),
        sequence=_integer(claims, "sequence", MAX_SEQUENCE),
        issued_at=_integer(claims, "issued_at", MAX_TIME),
        roots=_roots(claims),
        token_keys=_token_keys(claims),
        revocations=Revocations(
            _expiring(revoked, "token_ids"),
            _expiring(revoked, "certificates"),
            frozenset(_names(revoked, "nodes")),
            frozenset(_names(revoked, "workspaces")),
        ),
        locks=tuple(_lock(entry) for entry in _list(claims, "locks") if not _is_of_a_later_release(entry)),
        name_suffix=_matching(claims, "name_suffix", _SUFFIX),
        relays=_relays(claims) if "relays" in claims else None,
        retirement=_retirement(claims),
    )


def _write_retirement(retirement: Retirement) -> dict[str, Any]:
    """Nothing at all where nothing is retired, so that documents without a rotation keep their form."""
    if retirement == Retirement():
        return {}
    return {
        "retirement": {
            "roots": sorted(retirement.roots),
            "token_keys": sorted(retirement.token_keys),
            "left_token_keys": sorted(retirement.left_token_keys),
            "renew_within_seconds": retirement.renew_within_seconds,
        }
    }


def _retirement(claims: Mapping[str, Any]) -> Retirement:
    if "retirement" not in claims:
        return Retirement()
    stated = _object(claims, "retirement")
    within = stated.get("renew_within_seconds")
    lists = [_names(stated, member) for member in ("roots", "token_keys", "left_token_keys")]
    bounds = (MAX_ROOTS, MAX_TOKEN_KEYS, MAX_TOKEN_KEYS)
    if type(within) is not int or not 0 <= within <= MAX_RENEW_WITHIN_SECONDS:
        raise _malformed("retirement")
    if any(len(names) > bound for names, bound in zip(lists, bounds, strict=True)):
        raise _malformed("retirement")
    roots, token_keys, left = (frozenset(names) for names in lists)
    return Retirement(roots, token_keys, left, within)


def _trust_domain(claims: Mapping[str, Any]) -> str:
    value = claims.get("trust_domain")
    try:
        return control_plane_id(value if isinstance(value, str) else "").trust_domain
    except CertificateError as error:
        raise _malformed("trust_domain") from error


def _roots(claims: Mapping[str, Any]) -> tuple[x509.Certificate, ...]:
    entries = _list(claims, "roots")
    if not 0 < len(entries) <= MAX_ROOTS:
        raise _malformed("roots")
    try:
        return tuple(certificates_from_pem(str(entry), maximum=1)[0] for entry in entries)
    except CertificateError as error:
        raise _malformed("roots") from error


def _token_keys(claims: Mapping[str, Any]) -> tuple[TokenKey, ...]:
    entries = _list(claims, "token_keys")
    if len(entries) > MAX_TOKEN_KEYS or not all(isinstance(entry, dict) for entry in entries):
        raise _malformed("token_keys")
    try:
        keys = tuple(read_token_key(entry) for entry in entries)
    except CertificateError as error:
        raise _malformed("token_keys") from error
    if len({key.key_id for key in keys}) != len(keys):
        raise _malformed("token_keys")
    return keys


def _relays(claims: Mapping[str, Any]) -> tuple[str, ...]:
    entries = _list(claims, "relays")
    if len(entries) > MAX_RELAYS or not all(isinstance(url, str) and is_relay_address(url) for url in entries):
        raise _malformed("relays")
    return tuple(entries)


def _is_of_a_later_release(entry: object) -> bool:
    kind = entry.get("kind") if isinstance(entry, dict) else None
    return isinstance(kind, str) and kind not in LOCK_KINDS


def _lock(entry: object) -> TrustLock:
    if not isinstance(entry, dict) or entry.get("kind") not in LOCK_KINDS:
        raise _malformed("locks")
    reason = entry.get("reason", "")
    if not isinstance(reason, str) or len(reason) > _MAX_REASON:
        raise _malformed("locks")
    return TrustLock(entry["kind"], _matching(entry, "id", _NAME), _integer(entry, "expires_at", MAX_TIME), reason)


def _expiring(revoked: Mapping[str, Any], member: str) -> dict[str, int]:
    entries = _object(revoked, member)
    for name, until in entries.items():
        if not _NAME.fullmatch(name) or type(until) is not int:
            raise _malformed(member)
    return dict(entries)


def _names(revoked: Mapping[str, Any], member: str) -> list[str]:
    entries = _list(revoked, member)
    if not all(isinstance(name, str) and _NAME.fullmatch(name) for name in entries):
        raise _malformed(member)
    return entries


def _integer(claims: Mapping[str, Any], member: str, maximum: int) -> int:
    value = claims.get(member)
    if type(value) is not int or not 0 < value <= maximum:
        raise _malformed(member)
    return value


def _matching(claims: Mapping[str, Any], member: str, grammar: re.Pattern[str]) -> str:
    value = claims.get(member)
    if not isinstance(value, str) or not grammar.fullmatch(value):
        raise _malformed(member)
    return value


def _object(claims: Mapping[str, Any], member: str) -> dict[str, Any]:
    value = claims.get(member)
    if not isinstance(value, dict):
        raise _malformed(member)
    return value


def _list(claims: Mapping[str, Any], member: str) -> list[Any]:
    value = claims.get(member)
    if not isinstance(value, list):
        raise _malformed(member)
    return value


def _malformed(member: str) -> TrustError:
    return TrustError(f"the trust document's member {member} is missing or malformed")
