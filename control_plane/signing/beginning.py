"""The first signers: made by `init`, or taken up from the files of a control plane that had no rotations yet."""

from certs.authority import Authority
from certs.chains import certificates_from_pem, certificates_to_pem
from certs.errors import KeyFileError
from certs.keyfiles import read_public, write_public
from certs.succession import AuthorityCertificates
from control_plane.settings import ControlPlaneSettings
from control_plane.signing.key_stores import KeyStores
from control_plane.signing.making import (
    FIRST_AUTHORITY,
    FIRST_TOKEN_KEY,
    ISSUING,
    ROOT,
    Made,
    describe_authority,
    describe_key,
    make_first_authority,
    make_token_key,
)
from control_plane.signing.phases import SignerKind
from control_plane.storage import rotations, signers
from control_plane.storage.accounts import next_trust_sequence
from control_plane.storage.database import Database

BY = "local/init"


async def begin_signers(
    database: Database, settings: ControlPlaneSettings, stores: KeyStores, now: float, *, make: bool
) -> None:
    """Record the first signer of each kind, if there is none; with `make`, make the keys that are missing.

    Raises:
        CertificateError: a key is missing, damaged, or cannot be stored.
        StorageError: the database cannot be written.
    """
    async with database.read() as session:
        known = set(await rotations.versions(session))
    if SignerKind.CA.value not in known:
        await _begin(database, SignerKind.CA, _first_authority(settings, stores, now, make=make), now)
    if SignerKind.SIGNING_KEY.value not in known:
        await _begin(database, SignerKind.SIGNING_KEY, _first_token_key(settings, stores, make=make), now)


async def _begin(database: Database, kind: SignerKind, made: Made, now: float) -> None:
    now_ms = int(now * 1000)
    async with database.write() as session:
        if await rotations.find(session, kind.value) is not None:
            return
        signers.add(session, made.signer_id, kind.value, made.form, made.key_names, now_ms)
        await session.flush()
        sequence = await next_trust_sequence(session, now_ms)
        rotations.begin(session, kind.value, made.signer_id, by=BY, gate_sequence=sequence, now_ms=now_ms)


def _first_authority(settings: ControlPlaneSettings, stores: KeyStores, now: float, *, make: bool) -> Made:
    directory, trust_domain = settings.authority_directory, settings.identity.trust_domain
    if settings.authority.pkcs11 is None:
        if make and not directory.exists():
            Authority.create(directory, trust_domain, now=now)
        names = {ROOT: f"{FIRST_AUTHORITY}/root-key", ISSUING: f"{FIRST_AUTHORITY}/issuing-key"}
        root, issuing = (
            certificates_from_pem(_read(settings, name), maximum=1)[0] for name in ("root.pem", "issuing.pem")
        )
        return describe_authority(AuthorityCertificates(root, issuing), names)
    if not make:
        msg = "no authority is recorded: run `trunkline control-plane init --config FILE` first"
        raise KeyFileError(msg)
    made = make_first_authority(stores, trust_domain, now)
    _write_public(settings, AuthorityCertificates.from_document(made.form))
    return made


def _first_token_key(settings: ControlPlaneSettings, stores: KeyStores, *, make: bool) -> Made:
    if make and not settings.token_key_file.exists():
        return make_token_key(stores, FIRST_TOKEN_KEY)
    return describe_key(stores.tokens.open(FIRST_TOKEN_KEY), FIRST_TOKEN_KEY)


def _write_public(settings: ControlPlaneSettings, certificates: AuthorityCertificates) -> None:
    directory = settings.authority_directory
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, certificate in (("root.pem", certificates.root), ("issuing.pem", certificates.issuing)):
        write_public(directory / name, certificates_to_pem([certificate]).encode("ascii"))


def _read(settings: ControlPlaneSettings, name: str) -> bytes:
    return read_public(settings.authority_directory / name)
