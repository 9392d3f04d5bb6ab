"""A signed `sts:GetCallerIdentity` request of AWS: made on a machine, sent by the control plane, bound to a nonce.

The request has one form (AWS Signature Version 4, POST, a fixed body, a fixed set of signed headers), of which only
what the signer alone can know travels: the time, the session token, the access key id and the signature. Whoever sends
it writes method, host, path, body and the nonce's header anew, from what it knows itself; a request that was signed for
anything else does not verify at AWS. So there is no URL to be led astray by, no header to smuggle, and no other action
to ask for (compare CVE-2020-16250 of Vault).

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime

from certs.errors import TokenError, TokenErrorCode

BODY = b"Action=GetCallerIdentity&Version=2011-06-15"
CONTENT_TYPE = "application/x-www-form-urlencoded; charset=utf-8"
NONCE_HEADER = "X-Trunkline-Nonce"
MAX_SESSION_TOKEN_BYTES = 8192
MAX_SKEW_SECONDS = 300
"""AWS itself takes requests that are 15 minutes old; evidence is made for a challenge that lives for one."""

_SIGNED = "content-type;host;x-amz-date;x-amz-security-token;x-trunkline-nonce"
_REGION = re.compile(r"[a-z]{2,3}(?:-[a-z]+){1,3}-[0-9]{1,2}", re.ASCII)
_DATE = re.compile(r"[0-9]{8}T[0-9]{6}Z", re.ASCII)
_DATE_FORM = "%Y%m%dT%H%M%SZ"
_ACCESS_KEY = re.compile(r"ASIA[A-Z0-9]{12,28}", re.ASCII)
_SIGNATURE = re.compile(r"[0-9a-f]{64}", re.ASCII)
_SESSION_TOKEN = re.compile(r"[A-Za-z0-9+/=_-]{16,8192}", re.ASCII)


@dataclass(frozen=True, slots=True)
class RoleCredentials:
    """The credentials of a machine's role, as the metadata service gives them."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SignedCallerIdentity:
    """What travels of a signed request; whoever holds it can, for some minutes, learn who signed it, and no more."""

    date: str
    access_key_id: str
    session_token: str = field(repr=False)
    signature: str = field(repr=False)


def sts_host(region: str) -> str:
    """The host of the region's STS endpoint.

    Raises:
        ValueError: this is not the name of a region.
    """
    if not _REGION.fullmatch(region):
        msg = "not the name of an AWS region"
        raise ValueError(msg)
    return f"sts.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}"


def sign_caller_identity(
    credentials: RoleCredentials, *, region: str, host: str, nonce: str, now: float
) -> SignedCallerIdentity:
    """Sign the request that tells `host` of `region` who holds the credentials, for one evidence nonce."""
    date = datetime.fromtimestamp(now, UTC).strftime(_DATE_FORM)
    scope = _scope(date, region)
    canonical = "\n".join(
        (
            "POST",
            "/",
            "",
            f"content-type:{CONTENT_TYPE}",
            f"host:{host}",
            f"x-amz-date:{date}",
            f"x-amz-security-token:{credentials.session_token}",
            f"x-trunkline-nonce:{nonce}",
            "",
            _SIGNED,
            hashlib.sha256(BODY).hexdigest(),
        )
    )
    to_sign = "\n".join(("AWS4-HMAC-SHA256", date, scope, hashlib.sha256(canonical.encode()).hexdigest()))
    key = f"AWS4{credentials.secret_access_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    return SignedCallerIdentity(date, credentials.access_key_id, credentials.session_token, signature)


def check_caller_identity(signed: SignedCallerIdentity, now: float) -> None:
    """Refuse what cannot be a request signed just now by the role of a machine; AWS alone knows whether it is one.

    Raises:
        TokenError: MALFORMED, or NOT_YET_VALID or EXPIRED for one signed at another time.
    """
    forms = (
        (_DATE, signed.date),
        (_ACCESS_KEY, signed.access_key_id),
        (_SESSION_TOKEN, signed.session_token),
        (_SIGNATURE, signed.signature),
    )
    if not all(form.fullmatch(text) for form, text in forms):
        raise TokenError(TokenErrorCode.MALFORMED, "the signed GetCallerIdentity request is malformed")
    try:
        signed_at = datetime.strptime(signed.date, _DATE_FORM).replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise TokenError(TokenErrorCode.MALFORMED, "the signed GetCallerIdentity request has no date") from None
    if signed_at - MAX_SKEW_SECONDS > now:
        raise TokenError(TokenErrorCode.NOT_YET_VALID, "the request was signed in the future: compare the clocks")
    if signed_at + MAX_SKEW_SECONDS < now:
        raise TokenError(TokenErrorCode.EXPIRED, "the request was signed too long ago: compare the clocks")


def request_headers(signed: SignedCallerIdentity, *, region: str, host: str, nonce: str) -> dict[str, str]:
    """The whole header section of the request, but for what frames its body; `Accept` makes the answer JSON."""
    credential = f"{signed.access_key_id}/{_scope(signed.date, region)}"
    return {
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "Authorization": f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={_SIGNED}, "
        f"Signature={signed.signature}",
        "Content-Type": CONTENT_TYPE,
        "Host": host,
        "X-Amz-Date": signed.date,
        "X-Amz-Security-Token": signed.session_token,
        NONCE_HEADER: nonce,
    }


def _scope(date: str, region: str) -> str:
    return f"{date[:8]}/{region}/sts/aws4_request"
