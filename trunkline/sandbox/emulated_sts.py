"""The emulated STS: tells who signed a GetCallerIdentity request, as AWS does, for DEVELOPMENT ONLY."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from certs.caller_identity import BODY, CONTENT_TYPE, NONCE_HEADER, RoleCredentials, sign_caller_identity
from trunkline.sandbox.emulated_machines import (
    AWS_ACCOUNT,
    AWS_REGION,
    AWS_ROLE,
    ec2_access_key_id,
    ec2_instance_id,
)

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[A-Z0-9]+)/(?P<day>[0-9]{8})/(?P<region>[a-z0-9-]+)/sts/aws4_request, "
    r"SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-trunkline-nonce, Signature=(?P<signature>.*)"
)


class EmulatedSts:
    """Knows the credentials of every machine's role."""

    def __init__(self, machines: Collection[str], seed: bytes) -> None:
        """Prepare; the credentials are made of the seed."""
        self._seed = seed
        self._machines = {ec2_access_key_id(machine): machine for machine in machines}

    def credentials(self, machine: str) -> RoleCredentials:
        """The credentials of a machine's role."""
        secret, token = (
            base64.b64encode(hmac.digest(self._seed, f"{kind}/{machine}".encode(), hashlib.sha384)).decode()
            for kind in ("secret", "token")
        )
        return RoleCredentials(ec2_access_key_id(machine), secret[:40], token)

    async def answer(self, request: web.Request) -> web.Response:
        """Answer a request to the service."""
        machine = self._caller(request.headers, await request.read())
        if machine is None:
            return web.json_response({"Error": {"Code": "SignatureDoesNotMatch"}}, status=403)
        return web.json_response(_result(machine))

    def _caller(self, headers: Mapping[str, str], body: bytes) -> str | None:
        said = _AUTHORIZATION.fullmatch(headers.get("Authorization", ""))
        machine = self._machines.get(said["key"]) if said is not None else None
        if said is None or machine is None or said["region"] != AWS_REGION:
            return None
        if body != BODY or headers.get("Content-Type") != CONTENT_TYPE:
            return None
        credentials = self.credentials(machine)
        try:
            signed_at = datetime.strptime(headers.get("X-Amz-Date", ""), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        except ValueError:
            return None
        expected = sign_caller_identity(
            credentials,
            region=AWS_REGION,
            host=headers.get("Host", ""),
            nonce=headers.get(NONCE_HEADER, ""),
            now=signed_at.timestamp(),
        )
        told = (headers.get("X-Amz-Security-Token", ""), said["signature"])
        same = all(map(hmac.compare_digest, told, (expected.session_token, expected.signature)))
        return machine if same else None


def _result(machine: str) -> dict[str, Any]:
    instance = ec2_instance_id(machine)
    result = {
        "Account": AWS_ACCOUNT,
        "Arn": f"arn:aws:sts::{AWS_ACCOUNT}:assumed-role/{AWS_ROLE}/{instance}",
        "UserId": f"AROASANDBOXSANDBOX42:{instance}",
    }
    return {
        "GetCallerIdentityResponse": {"GetCallerIdentityResult": result, "ResponseMetadata": {"RequestId": "sandbox"}}
    }
