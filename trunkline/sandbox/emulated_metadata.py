"""The emulated metadata service: Azure's, AWS's and Google's forms below one path for each machine: DEVELOPMENT ONLY.

`/vm-1/metadata/…` is Azure's, `/vm-1/latest/…` AWS's (version 2: a session first), `/vm-1/computeMetadata/…` Google's;
each wants its own header, as the real ones do. `PUT /vm-1/lies` tells it what to lie about.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from typing import Any

from aiohttp import web
from pydantic import ValidationError

from trunkline.runtime.clock import Clock
from trunkline.sandbox.emulated_documents import EmulatedDocuments
from trunkline.sandbox.emulated_identity import EmulatedIssuer
from trunkline.sandbox.emulated_lies import LieBook, Lies
from trunkline.sandbox.emulated_machines import AWS_REGION, AWS_ROLE, CONTROL_PLANE
from trunkline.sandbox.emulated_sts import EmulatedSts

MOST_SESSIONS = 1000
_GOOGLE = {"Metadata-Flavor": "Google"}


class EmulatedMetadata:
    """Answers for the machines of a sandbox."""

    def __init__(
        self,
        issuer: EmulatedIssuer,
        documents: EmulatedDocuments,
        sts: EmulatedSts,
        machines: Collection[str],
        clock: Clock,
    ) -> None:
        self._issuer = issuer
        self._documents = documents
        self._sts = sts
        self._machines = frozenset(machines)
        self._clock = clock
        self._book = LieBook(machines)
        self._sessions: list[str] = []

    def application(self) -> web.Application:
        """The service as an application."""
        application = web.Application()
        for method, path, handler in (
            ("GET", "/metadata/identity/oauth2/token", self.azure_token),
            ("GET", "/metadata/attested/document", self.azure_document),
            ("PUT", "/latest/api/token", self.aws_session),
            ("GET", "/latest/dynamic/instance-identity/rsa2048", self.aws_document),
            ("GET", "/latest/meta-data/placement/region", self.aws_region),
            ("GET", "/latest/meta-data/iam/security-credentials/", self.aws_role),
            ("GET", f"/latest/meta-data/iam/security-credentials/{AWS_ROLE}", self.aws_credentials),
            ("GET", "/computeMetadata/v1/instance/service-accounts/default/identity", self.gcp_token),
            ("PUT", "/lies", self.tell_lies),
        ):
            application.router.add_route(method, "/{machine}" + path, handler)
        return application

    async def azure_token(self, request: web.Request) -> web.Response:
        """A managed identity's token."""
        machine = self._azure_machine(request, further=(CONTROL_PLANE,))
        lies, audience = self._book.of(machine), request.query.get("resource", "")
        if not audience or not request.query.get("api-version"):
            raise _refusal(400, "invalid_request", "api-version and resource are needed")
        token = self._issuer.access_token(
            lies.token_of or machine, lies.audience or audience, self._clock.now(), resource=lies.resource_id
        )
        return web.json_response(token)

    async def azure_document(self, request: web.Request) -> web.Response:
        """An attested document."""
        machine = self._azure_machine(request)
        lies, nonce = self._book.of(machine), request.query.get("nonce", "")
        if not nonce.isalnum() or len(nonce) > 32 or not request.query.get("api-version"):
            raise _refusal(400, "invalid_request", "api-version and a nonce of at most 32 letters are needed")
        document = self._documents.azure(
            lies.document_of or machine, lies.nonce or nonce, self._clock.now(), foreign=lies.foreign_signer
        )
        return web.json_response(document)

    async def aws_session(self, request: web.Request) -> web.Response:
        """A session of the second version."""
        self._machine(request)
        if not request.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "").isdigit():
            raise _refusal(400, "bad_request", "the life of the session is needed")
        if "X-Forwarded-For" in request.headers:
            raise _refusal(403, "forbidden", "forwarded requests are refused")
        session = secrets.token_urlsafe(32)
        self._sessions = [*self._sessions[1 - MOST_SESSIONS :], session]
        return web.Response(text=session)

    async def aws_document(self, request: web.Request) -> web.Response:
        """An instance identity document."""
        machine = self._aws_machine(request)
        lies = self._book.of(machine)
        return web.Response(text=self._documents.aws(lies.document_of or machine, foreign=lies.foreign_signer))

    async def aws_region(self, request: web.Request) -> web.Response:
        """The region."""
        self._aws_machine(request)
        return web.Response(text=AWS_REGION)

    async def aws_role(self, request: web.Request) -> web.Response:
        """The name of the role."""
        self._aws_machine(request)
        return web.Response(text=AWS_ROLE)

    async def aws_credentials(self, request: web.Request) -> web.Response:
        """The role's credentials."""
        machine = self._aws_machine(request)
        credentials = self._sts.credentials(self._book.of(machine).token_of or machine)
        document = {
            "Code": "Success",
            "Type": "AWS-HMAC",
            "AccessKeyId": credentials.access_key_id,
            "SecretAccessKey": credentials.secret_access_key,
            "Token": credentials.session_token,
        }
        return web.json_response(document)

    async def gcp_token(self, request: web.Request) -> web.Response:
        """An instance's identity token."""
        machine = self._machine(request)
        if request.headers.get("Metadata-Flavor") != "Google" or "X-Forwarded-For" in request.headers:
            raise _refusal(403, "forbidden", "Metadata-Flavor: Google is needed")
        audience = request.query.get("audience", "")
        if not audience or request.query.get("format") != "full":
            raise _refusal(400, "bad_request", "audience and format=full are needed")
        lies = self._book.of(machine)
        ours, _, nonce = audience.rpartition("/")
        told = f"{lies.audience or ours}/{lies.nonce or nonce}"
        token = self._issuer.gcp_token(lies.token_of or machine, told, self._clock.now())
        return web.Response(text=token, headers=_GOOGLE)

    async def tell_lies(self, request: web.Request) -> web.Response:
        """Replace what is lied about of a machine."""
        machine = self._machine(request)
        try:
            self._book.tell(machine, Lies.model_validate_json(await request.read()))
        except (ValidationError, ValueError) as error:
            raise _refusal(400, "bad_request", str(error).splitlines()[0]) from None
        return web.json_response({})

    def _machine(self, request: web.Request, further: Collection[str] = ()) -> str:
        machine = request.match_info["machine"]
        if machine not in self._machines and machine not in further:
            raise _refusal(404, "not_found", "no such machine in this sandbox")
        return machine

    def _azure_machine(self, request: web.Request, further: Collection[str] = ()) -> str:
        if request.headers.get("Metadata", "").lower() != "true" or "X-Forwarded-For" in request.headers:
            raise _refusal(400, "bad_request", "Required metadata header not specified")
        return self._machine(request, further)

    def _aws_machine(self, request: web.Request) -> str:
        if request.headers.get("X-aws-ec2-metadata-token") not in self._sessions:
            raise _refusal(401, "unauthorized", "a session is needed")
        return self._machine(request)


def _refusal(status: int, error: str, description: str) -> web.HTTPException:
    kinds: dict[int, type[Any]] = {
        400: web.HTTPBadRequest,
        401: web.HTTPUnauthorized,
        403: web.HTTPForbidden,
        404: web.HTTPNotFound,
    }
    body = web.json_response({"error": error, "error_description": description}).text
    refusal: web.HTTPException = kinds[status](text=body, content_type="application/json")
    return refusal
