"""Trust documents, signed and verified, and the store that holds the one in force.

A document is a compact JWS whose header carries the chain of the control plane's SVID (`x5c`). A holder verifies that
chain against the roots it trusts *already*, takes no document with a number below the one it holds, and makes the new
one durable before it is in force. Where the disk does not take it, it is in force all the same, for as long as the
process lives: a full disk must not keep a revocation from counting.

Whoever may hand a document in can write any four megabytes, and to read the densest strictly takes seconds: the content
is read only behind a good signature.
"""

import contextlib
import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cryptography import x509

from certs.chains import MAX_CERTIFICATE_BYTES, MAX_CHAIN_CERTIFICATES, CertificateChain, verify_chain
from certs.encoding import canonical_json
from certs.errors import CertificateError, KeyFileError, TokenError, TrustError, TrustRollbackError
from certs.identities import Identity
from certs.jose import UnreadToken, chain_member, chain_of, check_signature, parse_unread, write_compact
from certs.keyfiles import read_secret, write_secret
from certs.keyring import KeyRing
from certs.spiffe import IdentityRole, SpiffeId
from certs.trust_form import (
    CertificateVerdict,
    Retirement,
    Revocations,
    TrustDocument,
    TrustLock,
    TrustVerdict,
    read_trust_claims,
    write_trust_claims,
)

__all__ = [
    "CertificateVerdict",
    "Retirement",
    "Revocations",
    "TrustDocument",
    "TrustLock",
    "TrustStore",
    "TrustVerdict",
    "content_fingerprint",
    "fingerprint_of_text",
    "sign_trust_document",
    "signer_chain_of_text",
    "verify_first_trust_document",
    "verify_held_trust_document",
    "verify_trust_document",
]

TRUST_MEDIA_TYPE = "tl-trust+jwt"
MAX_DOCUMENT_BYTES = 4 * 1024 * 1024
"""Longest document: room for some 50,000 revocations."""
MAX_HEADER_BYTES = 2 * MAX_CHAIN_CERTIFICATES * MAX_CERTIFICATE_BYTES
"""Longest header: the longest chain that is accepted, in base64 twice."""
_CLAIMS_DEPTH = 5


def sign_trust_document(document: TrustDocument, identity: Identity) -> str:
    """The document as a compact JWS, signed with the control plane's SVID.

    Raises:
        CertificateError: the identity is not the control plane's, or the document is malformed or too long.
    """
    if identity.spiffe_id.role is not IdentityRole.CONTROL_PLANE:
        msg = "only the control plane signs trust documents"
        raise TrustError(msg)
    claims = write_trust_claims(document)
    if len(read_trust_claims(claims).locks) != len(document.locks):
        msg = "the trust document has a lock of an unknown kind"
        raise TrustError(msg)
    header = {"typ": TRUST_MEDIA_TYPE, "x5c": chain_member(identity.chain.certificates)}
    text = write_compact(header, claims, identity.signing_key())
    if len(text) > MAX_DOCUMENT_BYTES:
        msg = f"the trust document is longer than {MAX_DOCUMENT_BYTES} bytes"
        raise TrustError(msg)
    return text


def verify_trust_document(
    text: str, roots: Sequence[x509.Certificate], now: float, *, held: TrustDocument | None = None
) -> TrustDocument:
    """The document in `text`, signed by the control plane of its trust domain under one of `roots`.

    A certificate that the `held` document revokes or locks signs nothing any more.

    Raises:
        CertificateError: it is refused; never anything else, whatever `text` is.
    """
    return _verified(_parse(text), roots, now, held)


def verify_first_trust_document(text: str, now: float) -> TrustDocument:
    """The document in `text`, signed under a root that it states itself.

    It proves only that the document is whole: use it for one that came over a verified connection to the control
    plane, by whoever holds no document yet, and for one's own file.

    Raises:
        CertificateError: as `verify_trust_document`.
    """
    token = _parse(text)
    document = _read(token)
    return _of_its_domain(document, _signer(token, document.roots, now))


def verify_held_trust_document(text: str, roots: Sequence[x509.Certificate]) -> TrustDocument:
    """The document in `text`, which somebody holds since it was in force: its signer's SVID may have expired since.

    The chain is verified as of the leaf's first moment. It proves that the control plane has once signed the document,
    not that it is the newest: it may add to what is trusted less, never to what is trusted.

    Raises:
        CertificateError: as `verify_trust_document`.
    """
    token = _parse(text)
    return _verified(token, roots, chain_of(token).not_before + 1)


def content_fingerprint(document: TrustDocument) -> str:
    """SHA-256 of a document's content, without its number and time, in hexadecimal."""
    return _fingerprint(write_trust_claims(document))


def fingerprint_of_text(text: str) -> str:
    """The same of a signed document, members of a later release that are not understood here included.

    Raises:
        CertificateError: this is no trust document. The signature is not looked at.
    """
    return _fingerprint(_parse(text).claims(_CLAIMS_DEPTH))


def signer_chain_of_text(text: str) -> CertificateChain:
    """The chain that a document in `text` states of its signer.

    Raises:
        CertificateError: this is no trust document. Nothing is verified.
    """
    return chain_of(_parse(text))


def _fingerprint(claims: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json({**claims, "sequence": 1, "issued_at": 1})).hexdigest()


class TrustStore:
    """Holds the document in force, on disk and in memory, and the key ring that follows it."""

    def __init__(self, path: Path | None = None) -> None:
        """Take up the document stored at `path`, if there is one; None keeps documents in memory only.

        Raises:
            CertificateError: the stored document is damaged or readable by others.
        """
        self._path = path
        self._subscribers: list[Callable[[TrustDocument], None]] = []
        self.keyring = KeyRing()
        self.current: TrustDocument | None = None
        self.text: str | None = None
        self.unstored: KeyFileError | None = None
        """Why the document in force is not on the disk; None when it is, or need not be, or is still to be tried."""
        self._due: Callable[[], None] | None = None
        self._storing = threading.Lock()
        self._stored: str | None = None
        if path is not None and path.exists():
            self._take(*_load(path))
            self._stored = self.text

    @classmethod
    def following(cls, path: Path) -> "TrustStore":
        """Take up the document that another process has stored at `path`; later ones are kept in memory only.

        Raises:
            CertificateError: as from the constructor.
        """
        store = cls(path)
        store._path = None
        return store

    def replace(self, text: str, now: float) -> bool:
        """Put the document in `text` in force, if it is newer; whether it was. The first is taken as it is.

        It is on disk before it is in force, unless it is to be stored later, and in force before subscribers are
        called. A disk that does not take it hinders only the first, without which there is no trust to restart with; of
        later ones see `unstored`.

        Raises:
            CertificateError: it is refused: older than the one in force, other content under the same number, another
                trust domain, not signed by the control plane, or with a certificate that the one in force revokes or
                locks, malformed; or the first cannot be stored.
        """
        current = self.current
        if current is None:
            document = verify_first_trust_document(text, now)
        elif text == self.text:
            return False
        else:
            document = verify_trust_document(text, current.roots, now, held=current)
            if not _is_newer(document, current):
                return False
        if self._path is not None and (current is None or self._due is None):
            self._store(self._path, text)
        self._take(text, document)
        if self._due is not None:
            self._due()
        for subscriber in tuple(self._subscribers):
            subscriber(document)
        return True

    def store_later(self, due: Callable[[], None]) -> None:
        """Have `replace` wait for no disk: from here on it calls `due`, and `keep` is to be called in a thread then."""
        self._due = due

    @property
    def kept(self) -> bool:
        """Whether the document in force is on the disk, or need not be."""
        return self._path is None or self._stored == self.text

    def keep(self) -> bool:
        """Bring the document in force to the disk, where it is not; whether it is there, or need not be.

        It may be called in any thread. One that comes into force meanwhile is due anew, and says nothing of the disk.
        """
        with self._storing:
            text = self.text
            if self._path is None or text is None or self._stored == text:
                return True
            self._store(self._path, text)
            return self._stored == text

    def certificate_verdict(self, serial: str, now: float) -> TrustVerdict | None:
        """What the document in force says to have ended the use of a certificate: its revocation or lock."""
        return None if self.current is None else self.current.certificate_verdict(serial, now)

    def subscribe(self, subscriber: Callable[[TrustDocument], None]) -> Callable[[], None]:
        """Call `subscriber` with each new document, from inside `replace`; the result ends that. It must not raise."""
        self._subscribers.append(subscriber)

        def unsubscribe() -> None:
            with contextlib.suppress(ValueError):
                self._subscribers.remove(subscriber)

        return unsubscribe

    def _store(self, path: Path, text: str) -> None:
        try:
            write_secret(path, text.encode("ascii"))
        except KeyFileError as error:
            if self.current is None:
                raise
            self.unstored = error
        else:
            self._stored, self.unstored = text, None

    def _take(self, text: str, document: TrustDocument) -> None:
        self.current, self.text = document, text
        self.keyring.replace(document.token_keys, document.roots)


def _is_newer(document: TrustDocument, current: TrustDocument) -> bool:
    if document.trust_domain != current.trust_domain:
        msg = "the trust document is of another trust domain"
        raise TrustError(msg)
    if document.sequence < current.sequence:
        msg = f"the trust document has number {document.sequence}, older than {current.sequence} in force"
        raise TrustRollbackError(msg)
    if document.sequence > current.sequence:
        return True
    if _content(document) != _content(current):
        msg = f"another trust document with the number {current.sequence} is in force already"
        raise TrustRollbackError(msg)
    return False


def _content(document: TrustDocument) -> bytes:
    return canonical_json({**write_trust_claims(document), "issued_at": 0})


def _parse(text: str) -> UnreadToken:
    token = parse_unread(text, maximum_bytes=MAX_DOCUMENT_BYTES, maximum_header_bytes=MAX_HEADER_BYTES)
    if token.media_type != TRUST_MEDIA_TYPE:
        msg = "this is not a trust document"
        raise TrustError(msg)
    return token


def _read(token: UnreadToken) -> TrustDocument:
    return read_trust_claims(token.claims(_CLAIMS_DEPTH))


def _verified(
    token: UnreadToken, roots: Sequence[x509.Certificate], now: float, held: TrustDocument | None = None
) -> TrustDocument:
    signer = _signer(token, roots, now, held)
    return _of_its_domain(_read(token), signer)


def _signer(
    token: UnreadToken, roots: Sequence[x509.Certificate], now: float, held: TrustDocument | None = None
) -> SpiffeId:
    chain = chain_of(token)
    signer = verify_chain(chain, roots, now)
    if signer.role is not IdentityRole.CONTROL_PLANE:
        raise _foreign()
    check_signature(token, chain.leaf.public_key())
    ended = None if held is None else held.certificate_verdict(chain.serial, now)
    if ended is not None:
        msg = f"the trust document is signed with a certificate that {'is locked' if ended.locked else 'was revoked'}"
        raise TrustError(msg)
    return signer


def _of_its_domain(document: TrustDocument, signer: SpiffeId) -> TrustDocument:
    if signer.trust_domain != document.trust_domain:
        raise _foreign()
    return document


def _foreign() -> TrustError:
    return TrustError("the trust document is not signed by the control plane of its trust domain")


def _load(path: Path) -> tuple[str, TrustDocument]:
    """What was stored after it was verified: it need not be verifiable today, when its signer's SVID may be old."""
    try:
        text = read_secret(path).decode("ascii")
        token = _parse(text)
        document = _read(token)
        check_signature(token, chain_of(token).leaf.public_key())
    except (UnicodeDecodeError, TokenError, TrustError) as error:
        msg = f"{path} holds no trust document ({error}): remove it, and a new one will be fetched"
        raise CertificateError(msg) from error
    return text, document
