"""The errors of the identity layer: certificates, key files, tokens and trust documents that are refused."""

from enum import StrEnum


class CertificateError(Exception):
    """A certificate, chain, key or signing request is refused; the message says what to do about it."""


class KeyFileError(CertificateError):
    """A key file is missing, unreadable, too open or damaged; the message names the file."""


class TrustError(CertificateError):
    """A trust document is refused: its form, its signature, or a number older than the one already held."""


class TrustRollbackError(TrustError):
    """A genuine trust document goes behind the one in force: an older number, or other content under the same."""


class SealingError(CertificateError):
    """Sealed bytes cannot be opened with this key and context, or what is to be sealed is out of bounds."""


class TokenErrorCode(StrEnum):
    """Why a token is refused; the value is safe for logs and metric labels."""

    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    ALGORITHM = "algorithm"
    WRONG_KIND = "wrong_kind"
    UNKNOWN_KEY = "unknown_key"
    BAD_SIGNATURE = "bad_signature"
    BAD_CHAIN = "bad_chain"
    WRONG_ISSUER = "wrong_issuer"
    WRONG_AUDIENCE = "wrong_audience"
    BAD_CLAIMS = "bad_claims"
    NOT_YET_VALID = "not_yet_valid"
    EXPIRED = "expired"
    LIFETIME = "lifetime"


class TokenError(CertificateError):
    """A token is refused. The message never contains the token, nor anything else that its sender chose."""

    def __init__(self, code: TokenErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
