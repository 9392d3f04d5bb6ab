"""`/api/2.0/bootstrap` and `/api/2.0/nodes/self`: how a machine becomes a node, and stays one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Self

from aiohttp import web
from pydantic import AfterValidator, Field, model_validator

from certs.caller_identity import MAX_SESSION_TOKEN_BYTES, SignedCallerIdentity
from certs.encoding import decode_base64url
from certs.jose import MAX_TOKEN_BYTES
from control_plane.api.callers import Caller, Role, Route
from control_plane.api.context import ApiContext
from control_plane.api.pair_answers import pair_answer, renew_time
from control_plane.api.requests import MachineRequest, Name, Text, read_body
from control_plane.api.responses import json_response
from control_plane.attestation.evidence import Evidence
from control_plane.errors import ApiError, ErrorCode
from control_plane.identity.bootstrap import Bootstrap, BootstrapRequest
from control_plane.identity.renewals import Renewals
from control_plane.line import Line, LineFull
from control_plane.storage import relays

LARGEST_EVIDENCE_BYTES = 64 * 1024
LARGEST_CSR_BYTES = 16 * 1024
LARGEST_BODY_BYTES = 128 * 1024
SEALING_KEY_BYTES = 32
CHALLENGES_AT_ONCE = 8


def _sealing_key(text: str) -> str:
    try:
        right = len(decode_base64url(text)) == SEALING_KEY_BYTES
    except ValueError:
        right = False
    if not right:
        raise ValueError("must be an X25519 public key: 32 bytes as base64url without padding")
    return text


Csr = Annotated[str, Field(max_length=LARGEST_CSR_BYTES)]
SealingKey = Annotated[str, AfterValidator(_sealing_key)]


class CallerIdentityBody(MachineRequest):
    """A request to AWS STS that the machine has signed."""

    date: str = Field(max_length=32)
    access_key_id: str = Field(max_length=128)
    session_token: str = Field(max_length=MAX_SESSION_TOKEN_BYTES)
    signature: str = Field(max_length=128)


class EvidenceBody(MachineRequest):
    """What the machine proves itself with: each method has parts of its own."""

    type: str = Field(max_length=64)
    token: str = Field(default="", max_length=LARGEST_EVIDENCE_BYTES)
    document: str = Field(default="", max_length=LARGEST_EVIDENCE_BYTES)
    caller_identity: CallerIdentityBody | None = None

    @model_validator(mode="after")
    def _has_parts(self) -> Self:
        if not self.token and not self.document:
            raise ValueError("must have a token or a document")
        return self


class BootstrapBody(MachineRequest):
    """The body of a bootstrap."""

    evidence: EvidenceBody
    nonce: str = Field(min_length=1, max_length=128)
    csr: Csr
    sealing_key: SealingKey
    node_name: Name | None = None
    workspace: Text | None = Field(default=None, max_length=64)
    predecessor: str | None = Field(default=None, max_length=MAX_TOKEN_BYTES)
    agent_version: Text = Field(max_length=64)


class RenewalBody(MachineRequest):
    """The body of a renewal; a node's next sealing key comes along, relays have none."""

    csr: Csr
    sealing_key: SealingKey | None = None


class NothingFromMachine(MachineRequest):
    """A body in which nothing is asked for."""


@dataclass(frozen=True, slots=True)
class JoiningLines:
    """Before the two steps that strangers may take: else answers to many at once would come when nobody waits for them.

    A nonce waits for 60 s only, so of the first step few are taken at once: what was begun comes before what was not.
    """

    challenges: Line
    bootstraps: Line


class BootstrapResource:
    """What agents call."""

    def __init__(
        self,
        context: ApiContext,
        bootstrap: Bootstrap,
        renewals: Renewals,
        *,
        lines: JoiningLines,
        on_confirm: Callable[[], None],
    ) -> None:
        self._on_confirm = on_confirm
        self._context = context
        self._bootstrap = bootstrap
        self._renewals = renewals
        self._lines = lines

    def routes(self) -> list[Route]:
        """Return the routes of this resource."""
        return [
            Route("POST", "/api/2.0/bootstrap/challenge", Role.PUBLIC, self.challenge),
            Route("POST", "/api/2.0/bootstrap", Role.PUBLIC, self.bootstrap),
            Route("POST", "/api/2.0/bootstrap/confirm", Role.NODE, self.confirm, while_locked=True),
            Route("POST", "/api/2.0/nodes/self/renew", Role.NODE, self.renew, while_locked=True),
            Route("POST", "/api/2.0/nodes/self/listen-token", Role.NODE, self.listen_token, while_locked=True),
        ]

    async def challenge(self, request: web.Request, caller: Caller) -> web.Response:
        """Give out a nonce for one bootstrap."""
        await read_body(request, NothingFromMachine, largest_bytes=LARGEST_BODY_BYTES)
        with _told_when_full():
            async with self._lines.challenges.turn(request.remote):
                nonce, expire_time = await self._bootstrap.challenge()
        return json_response({"nonce": nonce, "expire_time": expire_time})

    async def bootstrap(self, request: web.Request, caller: Caller) -> web.Response:
        """Decide about a machine."""
        body = await read_body(request, BootstrapBody, largest_bytes=LARGEST_BODY_BYTES)
        with _told_when_full():
            async with self._lines.bootstraps.turn(request.remote):
                answer = await self._bootstrap.decide(_asked(body), caller.actor)
        return json_response(
            {
                "node_id": answer.node_id,
                "node": answer.node,
                "workspace_id": answer.workspace_id,
                "workspace": answer.workspace,
                "certificate_chain": answer.certificate_chain,
                "trust_document": self._context.trust.text,
                "relays": await self._relays(),
                "listen_token": answer.listen_token,
                "name_suffix": self._context.settings.identity.name_suffix,
                "policy": {},
            }
            | renew_time(answer.renew_time)
        )

    async def confirm(self, request: web.Request, caller: Caller) -> web.Response:
        """Take note that the node holds its new key; only now is it handed secrets, when it asks for them."""
        await read_body(request, NothingFromMachine, largest_bytes=LARGEST_BODY_BYTES)
        if await self._renewals.confirm(caller.workspace_id, caller.subject_id, caller.serial, caller.actor):
            await self._context.trust.refresh()
        self._on_confirm()
        return json_response({})

    async def renew(self, request: web.Request, caller: Caller) -> web.Response:
        """Issue the node's next leaf and listen token."""
        body = await read_body(request, RenewalBody, largest_bytes=LARGEST_BODY_BYTES)
        pair, changed = await self._renewals.renew_node(
            caller.workspace_id, caller.subject_id, caller.serial, body.csr, body.sealing_key, caller.actor
        )
        if changed:
            await self._context.trust.refresh()
        return await pair_answer(self._context, pair)

    async def listen_token(self, request: web.Request, caller: Caller) -> web.Response:
        """Issue a fresh listen token for the leaf that the node presents."""
        await read_body(request, NothingFromMachine, largest_bytes=LARGEST_BODY_BYTES)
        token = await self._renewals.listen_token(caller.workspace_id, caller.subject_id, caller.serial, caller.actor)
        answer = {"listen_token": token, "relays": await self._relays(), "trust_document": self._context.trust.text}
        return json_response(answer)

    async def _relays(self) -> list[dict[str, str]]:
        async with self._context.database.read() as session:
            return await relays.addresses(session)


@contextmanager
def _told_when_full() -> Iterator[None]:
    try:
        yield
    except LineFull as full:
        message = "more machines join at the moment than are answered in time: ask again"
        raise ApiError(ErrorCode.RESOURCE_EXHAUSTED, message, retry_after_seconds=full.retry_after_seconds) from None


def _asked(body: BootstrapBody) -> BootstrapRequest:
    return BootstrapRequest(
        evidence=_evidence(body.evidence),
        nonce=body.nonce,
        csr=body.csr,
        sealing_key=body.sealing_key,
        agent_version=body.agent_version,
        node_name=body.node_name,
        workspace=body.workspace,
        predecessor=body.predecessor,
    )


def _evidence(body: EvidenceBody) -> Evidence:
    said = body.caller_identity
    caller = None
    if said is not None:
        caller = SignedCallerIdentity(said.date, said.access_key_id, said.session_token, said.signature)
    return Evidence(body.type, token=body.token, document=body.document, caller=caller)
