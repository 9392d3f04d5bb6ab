"""`/api/2.0/nodes/self/secrets`: a node asks for what it is granted, and reports what it took and what used it."""

from typing import Annotated, Any

from aiohttp import web
from pydantic import Field, StringConstraints

from control_plane.allowances import Allowances
from control_plane.api.bootstrap import LARGEST_BODY_BYTES, SealingKey
from control_plane.api.callers import Caller, Role, Route
from control_plane.api.requests import MachineRequest, Word, read_body
from control_plane.api.responses import json_response
from control_plane.names import COMMAND_ID_PATTERN
from control_plane.secrets.bundles import Bundles, NodeReport
from control_plane.secrets.references import REFERENCE_PATTERN
from control_plane.secrets.vault import MOST_SECRETS

PATH = "/api/2.0/nodes/self/secrets"
MOST_USES = 100
LARGEST_REPORT_BYTES = 1024 * 1024

Sequence = Annotated[int, Field(ge=0, lt=2**53)]
Reference = Annotated[str, StringConstraints(pattern=REFERENCE_PATTERN)]
CommandId = Annotated[str, Field(max_length=128, pattern=COMMAND_ID_PATTERN.replace(r"\Z", "$"))]


class BundleRequest(MachineRequest):
    """Which bundle the node holds, if any, and what the next is to be sealed to."""

    sealing_key: SealingKey
    held_sequence: Sequence | None = None


class Use(MachineRequest):
    """One secret that was given to one command."""

    secret: Reference
    version: Sequence
    command_id: CommandId
    submitted_by: str = Field(max_length=512)
    way: Word
    time: Sequence


class Report(MachineRequest):
    """What the node took, holds and used; `report_id` is the same when it is sent again."""

    report_id: str = Field(pattern=r"^[A-Za-z0-9-]{1,64}$")
    sequence: Sequence
    held: dict[Reference, Sequence] = Field(max_length=MOST_SECRETS)
    accepts: bool = True
    uses: list[Use] = Field(default=[], max_length=MOST_USES)
    uses_dropped: Sequence = 0


class NodeSecretResource:
    """What agents call."""

    def __init__(self, bundles: Bundles, allowances: Allowances) -> None:
        self._bundles = bundles
        self._allowances = allowances

    def routes(self) -> list[Route]:
        """Return the routes of this resource: what is locked gets no secrets, and still says which it has used."""
        return [
            Route("POST", PATH, Role.NODE, self.fetch),
            Route("POST", PATH + "/report", Role.NODE, self.report, while_locked=True),
        ]

    async def fetch(self, request: web.Request, caller: Caller) -> web.Response:
        """Hand the node its secrets, sealed, if they are others than those it holds."""
        body = await read_body(request, BundleRequest, largest_bytes=LARGEST_BODY_BYTES)
        handed = await self._bundles.hand(
            caller.subject_id,
            caller.workspace_id,
            caller.serial,
            sealing_key=body.sealing_key,
            held=body.held_sequence,
            actor=caller.actor,
        )
        answer: dict[str, Any] = {"sequence": handed.sequence}
        return json_response(answer if handed.sealed is None else answer | {"sealed": handed.sealed})

    async def report(self, request: web.Request, caller: Caller) -> web.Response:
        """Take in what the node says."""
        body = await read_body(request, Report, largest_bytes=LARGEST_REPORT_BYTES)
        self._allowances.spend(caller.subject_id, len(body.uses))
        report = NodeReport(
            report_id=body.report_id,
            sequence=body.sequence,
            held=body.held,
            accepts=body.accepts,
            uses=[use.model_dump() for use in body.uses],
            uses_dropped=body.uses_dropped,
        )
        await self._bundles.take_report(caller.subject_id, caller.workspace_id, report, caller.actor)
        return json_response({})
