"""`/api/2.0/accounts/{account}/rotations`: the rotations of the CA and of the signing key."""

from collections.abc import Sequence
from typing import Any

from aiohttp import web
from pydantic import Field

from control_plane.api.callers import Caller, Role, Route
from control_plane.api.context import ApiContext, check_account
from control_plane.api.requests import OperatorRequest, Text, read_body
from control_plane.api.responses import json_response
from control_plane.errors import not_found
from control_plane.rotation.gates import Verdict
from control_plane.rotation.progress import Progress
from control_plane.rotation.rotations import Rotations
from control_plane.rotation.steps import Asked
from control_plane.signing.ends import expire_time
from control_plane.signing.phases import LEAVES, SIGNS, Phase, Seat, SignerKind, Step
from control_plane.storage.records.signers import Signer

LIST_PATH = "/api/2.0/accounts/{account}/rotations"
PATH = LIST_PATH + "/{kind}"
REVOKE_PATH = "/api/2.0/accounts/{account}/signing-keys/{key_id}/revoke"


class StepBody(OperatorRequest):
    """A step: `version` is the one seen, so that nobody steps on from where they did not think they were."""

    version: int | None = Field(default=None, ge=1)
    force: bool = False
    reason: Text = Field(default="", max_length=500)


class RevokeBody(OperatorRequest):
    """The end of a key."""

    reason: Text = Field(min_length=1, max_length=500)


class RotationResource:
    """Rotations as operators see them."""

    def __init__(self, context: ApiContext, rotations: Rotations) -> None:
        self._context = context
        self._rotations = rotations

    def routes(self) -> list[Route]:
        """Return the routes of this resource."""
        return [
            Route("GET", LIST_PATH, Role.OPERATOR, self.list),
            Route("GET", PATH, Role.OPERATOR, self.get),
            Route("POST", PATH + "/{step}", Role.OPERATOR, self.take),
            Route("POST", REVOKE_PATH, Role.OPERATOR, self.revoke),
        ]

    async def list(self, request: web.Request, caller: Caller) -> web.Response:
        """Return where both rotations stand."""
        check_account(self._context, request)
        return json_response({"rotations": await self._seen(*SignerKind)})

    async def get(self, request: web.Request, caller: Caller) -> web.Response:
        """Return where a rotation stands."""
        return await self._answer(_kind(self._context, request))

    async def take(self, request: web.Request, caller: Caller) -> web.Response:
        """Take a step; sent twice, it is taken once."""
        kind = _kind(self._context, request)
        step = request.match_info["step"]
        if step not in {known.value for known in Step}:
            raise not_found("step", _listed_at(self._context))
        body = await read_body(request, StepBody)
        await self._rotations.take(
            Asked(kind, Step(step), caller.actor, version=body.version, force=body.force, reason=body.reason)
        )
        return await self._answer(kind)

    async def revoke(self, request: web.Request, caller: Caller) -> web.Response:
        """End a signing key at once; what stands on it is cut."""
        check_account(self._context, request)
        body = await read_body(request, RevokeBody)
        if not await self._rotations.revoke_key(request.match_info["key_id"], body.reason, caller.actor):
            raise not_found("signing key", f"{_listed_at(self._context)}/{SignerKind.SIGNING_KEY.value}")
        return await self._answer(SignerKind.SIGNING_KEY)

    async def _answer(self, kind: SignerKind) -> web.Response:
        [seen] = await self._seen(kind)
        return json_response(seen)

    async def _seen(self, *kinds: SignerKind) -> Sequence[dict[str, Any]]:
        due_days = self._context.settings.rotation.signing_key_days
        found = await self._rotations.progress(*kinds)
        return [_view(progress, due_days, self._context.trust.sequence) for progress in found]


def _listed_at(context: ApiContext) -> str:
    return LIST_PATH.replace("{account}", context.account_id)


def _kind(context: ApiContext, request: web.Request) -> SignerKind:
    check_account(context, request)
    kind = request.match_info["kind"]
    if kind not in {known.value for known in SignerKind}:
        raise not_found("rotation", _listed_at(context))
    return SignerKind(kind)


def _view(progress: Progress, due_days: int, sequence: int) -> dict[str, Any]:
    seats, rotation = progress.seats, progress.seats.rotation
    view = {
        "kind": rotation.kind,
        "phase": rotation.phase,
        "version": rotation.version,
        "step": rotation.step,
        "step_time": rotation.step_time,
        "stepped_by": rotation.stepped_by,
        "trust_sequence": sequence,
        "gate_sequence": rotation.gate_sequence,
        "live": progress.live,
        "signers": [
            _signer(seats.at(seat), seat, seats.phase, due_days)
            for seat in Seat
            if seat is Seat.INCUMBENT or seats.candidate is not None
        ],
        "next_steps": [_next_step(step, verdict) for step, verdict in progress.verdicts.items()],
    }
    return {name: value for name, value in view.items() if value is not None}


def _signer(signer: Signer, seat: Seat, phase: Phase, due_days: int) -> dict[str, Any]:
    view: dict[str, Any] = {
        "signer_id": signer.signer_id,
        "seat": seat.value,
        "active": SIGNS[phase] is seat,
        "retiring": LEAVES.get(phase) is seat,
        "creation_time": signer.creation_time,
        "expire_time": expire_time(signer, due_days),
    }
    return view if signer.tokens_until is None else view | {"tokens_until": signer.tokens_until}


def _next_step(step: Step, verdict: Verdict) -> dict[str, Any]:
    view: dict[str, Any] = {
        "step": step.value,
        "open": verdict.open,
        "adopted": verdict.adopted,
        "behind": verdict.behind,
        "laggards": [
            {
                "kind": laggard.machine.standing.kind,
                "id": laggard.machine.subject_id,
                "name": laggard.machine.name,
                "trust_sequence": laggard.machine.standing.trust_sequence,
                "problem": laggard.problem,
            }
            for laggard in verdict.named
        ],
    }
    return view if verdict.tokens_until is None else view | {"tokens_until": verdict.tokens_until}
