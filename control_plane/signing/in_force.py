"""The signers in force in this process: the authority and the token key that sign now, and all that is trusted.

The database decides; this is a copy of it with the keys loaded, taken anew after each step and looked at again every
second. A process that finds signers in force whose keys it has not was left behind by another control plane's step: it
must not go on with the old ones, so `load` raises, and the daemon ends.
"""

import asyncio
from collections.abc import Callable

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from certs.authority import Authority
from certs.chains import CertificateChain, certificates_to_pem
from certs.errors import CertificateError
from certs.identities import control_plane_id
from certs.issuance import is_issuing_for
from certs.keyfiles import write_public
from certs.keyring import key_id_of
from certs.keystores import FileKeys
from certs.tokens import TokenSigner
from control_plane.settings import ControlPlaneSettings
from control_plane.signing.key_stores import KeyStores
from control_plane.signing.making import ISSUING, SIGNING
from control_plane.signing.seats import AllSeats, certificates_of, read_seats
from control_plane.storage.accounts import the_account
from control_plane.storage.database import Database
from trunkline.runtime.clock import Clock


def write_roots(settings: ControlPlaneSettings, seats: AllSeats) -> None:
    """Write the trusted roots where clients find them.

    Raises:
        KeyFileError: the file cannot be written; the old content stays.
    """
    write_public(settings.ca_file, certificates_to_pem(seats.roots).encode("ascii"))


class SignersInForce:
    """What signs. `load` before anything else is asked."""

    def __init__(self, *, database: Database, settings: ControlPlaneSettings, stores: KeyStores, clock: Clock) -> None:
        self._database = database
        self._trust_domain = settings.identity.trust_domain
        self._stores = stores
        self._clock = clock
        self._seats: AllSeats | None = None
        self._authority: Authority | None = None
        self._token_signer: TokenSigner | None = None

    async def load(self) -> bool:
        """Take up what the database says; returns whether that was news.

        Raises:
            CertificateError: a key that is to sign is not here, or the settings name another trust domain.
            LookupError: the database says nothing legal.
            StorageError: it cannot be read.
        """
        now = self._clock.now()
        async with self._database.read() as session:
            await the_account(session)  # a database that was emptied lacks more than signers
            seats = await read_seats(session, now)
        if self._seats is not None and seats.versions == self._seats.versions:
            return False
        authority = self._open_authority(seats, now)
        token_signer = self._open_token_key(seats)
        self._seats, self._authority, self._token_signer = seats, authority, token_signer
        return True

    @property
    def seats(self) -> AllSeats:
        """Who sits where, as last loaded."""
        if self._seats is None:
            raise LookupError("the signers are not loaded yet")
        return self._seats

    @property
    def authority(self) -> Authority:
        """The authority that issues."""
        if self._authority is None:
            raise LookupError("the signers are not loaded yet")
        return self._authority

    @property
    def tokens(self) -> TokenSigner:
        """The signer of tokens."""
        if self._token_signer is None:
            raise LookupError("the signers are not loaded yet")
        return self._token_signer

    async def issue(self, make: Callable[[Authority], CertificateChain]) -> CertificateChain:
        """Have the authority issue; off the loop where its key is in a module, which may be slow or far away.

        Raises:
            CertificateError: as `make`, and where the module refuses.
        """
        if isinstance(self._stores.authority, FileKeys):
            return make(self.authority)
        return await asyncio.to_thread(make, self.authority)

    def vouch_for(self, certificate: x509.Certificate | None) -> bool:
        """Whether an authority that is trusted now, or that a restored database had forgotten, has issued it."""
        return self.issuing_of(certificate) is not None

    def issuing_of(self, certificate: x509.Certificate | None) -> x509.Certificate | None:
        """Return the issuing certificate of the authority of `vouch_for` that has issued the certificate, if any."""
        if certificate is None:
            return None
        for signer in (*self.seats.ca.trusted, *self.seats.forgotten_authorities):
            issuing = certificates_of(signer).issuing
            if _has_issued(issuing, certificate):
                return issuing
        return None

    def _open_authority(self, seats: AllSeats, now: float) -> Authority:
        active = seats.ca.active
        certificates = certificates_of(active)
        if not is_issuing_for(certificates.issuing, self._trust_domain):
            name = certificates.issuing.subject.rfc4514_string()
            msg = (
                f"identity.trust_domain is {self._trust_domain}, but {name} signs here: "
                "a trust domain is in every certificate, and stays the one that `init` was given"
            )
            raise CertificateError(msg)
        key = self._stores.authority.open(active.key_names[ISSUING])
        return certificates.authority(self._trust_domain, key, now)

    def _open_token_key(self, seats: AllSeats) -> TokenSigner:
        active = seats.signing_key.active
        key = self._stores.tokens.open(active.key_names[SIGNING])
        if key_id_of(key.public_key()) != active.signer_id:
            msg = f"the key in {active.key_names[SIGNING]} is not the one that signs tokens now, {active.signer_id}"
            raise CertificateError(msg)
        return TokenSigner(key, active.signer_id, control_plane_id(self._trust_domain))


def _has_issued(issuing: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuing)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
