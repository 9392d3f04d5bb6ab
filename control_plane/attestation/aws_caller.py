"""Who signed a GetCallerIdentity request: asked of AWS STS, in a request that is written here to the last byte.

The host is the STS endpoint of the instance's region, never a stranger's choice; method, path, body and header names
are fixed; the nonce's header holds the nonce that this control plane expects. The answer counts only as JSON of the
documented form, from that host, over verified TLS, and only an assumed role whose session is an EC2 instance's id is a
machine.
"""

import re
from dataclasses import dataclass
from typing import Any

from certs.caller_identity import BODY, SignedCallerIdentity, request_headers, sts_host
from certs.encoding import strict_json_object
from control_plane.attestation.outbound import Outbound
from control_plane.attestation.refusals import bad_evidence

MAX_ANSWER_BYTES = 8 * 1024

_DEPTH = 4
_ARN = re.compile(
    r"arn:(?P<partition>aws(?:-[a-z]+){0,2}):sts::(?P<account>[0-9]{12}):assumed-role/(?P<role>[\w+=,.@-]{1,64})"
    r"/(?P<session>i-(?:[0-9a-f]{8}|[0-9a-f]{17}))",
    re.ASCII,
)
_USER_ID = re.compile(r"AROA[A-Z0-9]{12,28}:(?P<session>[\w+=,.@-]{2,64})", re.ASCII)


@dataclass(frozen=True, slots=True)
class InstanceRole:
    """The role under which an instance runs; `session` is the instance's id."""

    account: str
    role_arn: str
    session: str


class CallerIdentities:
    """Asks STS. `endpoint_url` takes the place of every region's endpoint, for an emulated service."""

    def __init__(self, outbound: Outbound, *, endpoint_url: str | None = None) -> None:
        self._outbound = outbound
        self._endpoint_url = endpoint_url

    async def ask(self, signed: SignedCallerIdentity, *, region: str, nonce: str) -> InstanceRole:
        """Return the role that signed the request for this region and nonce.

        Raises:
            AttestationRefused: AWS does not take the signature, it is no instance's, or there is no usable answer.
        """
        host = sts_host(region)
        url = f"https://{host}"
        if self._endpoint_url is not None:
            url, host = self._endpoint_url, self._endpoint_url.partition("://")[2]
        headers = request_headers(signed, region=region, host=host, nonce=nonce)
        answer = await self._outbound.ask("POST", f"{url}/", headers, body=BODY, most_bytes=MAX_ANSWER_BYTES)
        if answer.status in (400, 403):
            raise bad_evidence("AWS does not take the signed GetCallerIdentity request: not for this challenge, or old")
        if answer.status != 200 or answer.content_type != "application/json":
            raise self._outbound.failed(f"status {answer.status}, {answer.content_type}")
        return self._read(answer.body)

    def _read(self, body: bytes) -> InstanceRole:
        try:
            result = _member(_member(strict_json_object(body, max_depth=_DEPTH), "Response"), "Result")
        except ValueError:
            raise self._outbound.failed("an answer of another form") from None
        arn, user = _ARN.fullmatch(_text(result, "Arn")), _USER_ID.fullmatch(_text(result, "UserId"))
        if arn is None or user is None or user["session"] != arn["session"] or result.get("Account") != arn["account"]:
            raise bad_evidence("the GetCallerIdentity request is not signed by the role of an EC2 instance")
        role_arn = f"arn:{arn['partition']}:iam::{arn['account']}:role/{arn['role']}"
        return InstanceRole(arn["account"], role_arn, arn["session"])


def _member(document: dict[str, Any], name: str) -> dict[str, Any]:
    value = document.get(f"GetCallerIdentity{name}")
    if not isinstance(value, dict):
        raise ValueError(name)
    return value


def _text(document: dict[str, Any], name: str) -> str:
    value = document.get(name)
    return value if isinstance(value, str) else ""
