"""When signers end: a root by its certificate, a token key when it is due to be rotated."""

from control_plane.signing.phases import SignerKind
from control_plane.signing.seats import certificates_of
from control_plane.storage.records.signers import Signer

DAY_MS = 86_400_000


def expire_time(signer: Signer, signing_key_days: int) -> int:
    """Return when a root ends, or when a token key is due to be rotated, in milliseconds since the epoch."""
    if signer.kind == SignerKind.CA.value:
        return int(certificates_of(signer).root.not_valid_after_utc.timestamp() * 1000)
    return signer.creation_time + signing_key_days * DAY_MS
