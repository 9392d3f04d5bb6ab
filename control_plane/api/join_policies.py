"""`/w/{workspace}/api/2.0/join-policies`: which machines become nodes by what their platform says of them."""

from typing import Annotated, Any, Literal, Self

from aiohttp import web
from pydantic import AfterValidator, Field, StringConstraints, model_validator

from control_plane.api.callers import Caller, Role, Route
from control_plane.api.clusters import cluster_id_named
from control_plane.api.context import ApiContext, the_workspace
from control_plane.api.join_tokens import MOST_LABELS, LabelName, LabelValue
from control_plane.api.pages import PageQuery
from control_plane.api.requests import Name, Nothing, OperatorRequest, Text, read_body, read_query
from control_plane.api.responses import json_response
from control_plane.attestation.machine import Platform
from control_plane.attestation.policies import check_conditions, check_template, normal_conditions
from control_plane.errors import ApiError, conflict, limit_reached, not_found
from control_plane.names import new_id
from control_plane.settings import DAY_SECONDS
from control_plane.storage import join_policies
from control_plane.storage.audit import Happening, append
from control_plane.storage.records.accounts import Workspace
from control_plane.storage.records.joining import JoinPolicy

PATH = "/w/{workspace}/api/2.0/join-policies"
MOST_POLICIES = 1000
MOST_VALUES = 256
LONGEST_VALUE = 512
LONGEST_WINDOW_SECONDS = 3650 * DAY_SECONDS

Value = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_VALUE, pattern=r"^[\x21-\x7e]+$")]
Values = Annotated[list[Value], Field(min_length=1, max_length=MOST_VALUES)]
TagName = Annotated[Text, Field(min_length=1, max_length=LONGEST_VALUE)]
TagValue = Annotated[Text, Field(max_length=LONGEST_VALUE)]
NameTemplate = Annotated[str, Field(max_length=128), AfterValidator(check_template)]


class Conditions(OperatorRequest):
    """What must hold of a machine: one of the values of each list, and every tag."""

    tenants: Values | None = None
    accounts: Values | None = None
    resource_groups: Values | None = None
    scale_sets: Values | None = None
    identities: Values | None = None
    regions: Values | None = None
    tags: dict[TagName, TagValue] | None = Field(default=None, min_length=1, max_length=32)


class Reattestation(OperatorRequest):
    """When a machine that is known may prove itself again: always, for a time, or once an operator has approved."""

    mode: Literal["auto", "window", "approval"] = "auto"
    seconds: int | None = Field(default=None, ge=1, le=LONGEST_WINDOW_SECONDS)
    since: Literal["first_bootstrap", "last_seen"] | None = None

    @model_validator(mode="after")
    def _only_a_window_has_bounds(self) -> Self:
        if self.mode == "window" and (self.seconds is None or self.since is None):
            raise ValueError("a window needs seconds, and since: first_bootstrap or last_seen")
        if self.mode != "window" and (self.seconds is not None or self.since is not None):
            raise ValueError("seconds and since belong to a window")
        return self


class NewJoinPolicy(OperatorRequest):
    """The body of a creation."""

    join_policy: Name
    platform: Literal["azure", "aws", "gcp"]
    conditions: Conditions
    node_name: NameTemplate | None = None
    labels: dict[LabelName, LabelValue] = Field(default={}, max_length=MOST_LABELS)
    cluster: str | None = Field(default=None, max_length=64)
    reattestation: Reattestation = Reattestation()

    @model_validator(mode="after")
    def _conditions_bound_it(self) -> Self:
        check_conditions(Platform(self.platform), self.conditions.model_dump(exclude_none=True))
        return self


class JoinPolicyResource:
    """Join policies as operators see them."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    def routes(self) -> list[Route]:
        """Return the routes of this resource."""
        return [
            Route("POST", PATH, Role.OPERATOR, self.create),
            Route("GET", PATH, Role.OPERATOR, self.list, query=True),
            Route("GET", PATH + "/{join_policy}", Role.OPERATOR, self.get),
            Route("DELETE", PATH + "/{join_policy}", Role.OPERATOR, self.delete),
        ]

    async def create(self, request: web.Request, caller: Caller) -> web.Response:
        """Create a policy; sent twice, the second answer is the first's with status 200."""
        body = await read_body(request, NewJoinPolicy)
        now = self._context.clock.now()
        async with self._context.database.write() as session:
            workspace = await the_workspace(session, request.match_info["workspace"])
            cluster_id = await cluster_id_named(session, workspace, body.cluster)
            wanted = _record(body, workspace.workspace_id, cluster_id, int(now * 1000))
            known = await join_policies.find(session, workspace.workspace_id, body.join_policy)
            if known is not None:
                if _in_order(_rules(known)) != _in_order(_rules(wanted)):
                    raise conflict(f"the join policy {body.join_policy!r} exists with other rules: delete it first")
                return json_response(_view(known))
            if await join_policies.count(session) >= MOST_POLICIES:
                raise limit_reached(
                    f"there may be {MOST_POLICIES} join policies in all workspaces together: delete some"
                )
            session.add(wanted)
            happening = Happening(
                "join_policy.create",
                resource=body.join_policy,
                workspace_id=workspace.workspace_id,
                details=_rules(wanted) | {"join_policy_id": wanted.join_policy_id},
            )
            append(session, now, caller.actor, happening)
        return json_response(_view(wanted), 201)

    async def list(self, request: web.Request, caller: Caller) -> web.Response:
        """List policies by name."""
        query = read_query(request, PageQuery)
        asked = self._context.pages.asked_for(request.path, query)
        async with self._context.database.read() as session:
            workspace = await the_workspace(session, request.match_info["workspace"])
            rows = await join_policies.list_page(
                session, workspace.workspace_id, after=asked.after(str), most=asked.most_rows
            )
        page, next_page = asked.cut(rows, lambda row: (row.join_policy,))
        return json_response({"join_policies": [_view(row) for row in page]} | next_page)

    async def get(self, request: web.Request, caller: Caller) -> web.Response:
        """Return one policy."""
        address = request.match_info["join_policy"]
        async with self._context.database.read() as session:
            workspace = await the_workspace(session, request.match_info["workspace"])
            record = await join_policies.find(session, workspace.workspace_id, address)
        if record is None:
            raise _no_such_policy(workspace)
        return json_response(_view(record))

    async def delete(self, request: web.Request, caller: Caller) -> web.Response:
        """Delete a policy; nodes that joined by it stay, and renew, but come back by evidence only under another."""
        await read_body(request, Nothing)
        address = request.match_info["join_policy"]
        async with self._context.database.write() as session:
            workspace = await the_workspace(session, request.match_info["workspace"])
            record = await join_policies.find(session, workspace.workspace_id, address)
            if record is None:
                raise _no_such_policy(workspace)
            await session.delete(record)
            details = {"join_policy_id": record.join_policy_id}
            happening = Happening(
                "join_policy.delete",
                resource=record.join_policy,
                workspace_id=workspace.workspace_id,
                details=details,
            )
            append(session, self._context.clock.now(), caller.actor, happening)
        return json_response({})


def _no_such_policy(workspace: Workspace) -> ApiError:
    listed_at = f"/w/{workspace.workspace}/api/2.0/join-policies"
    return not_found("join policy", listed_at, place=f" in the workspace {workspace.workspace}")


def _record(body: NewJoinPolicy, workspace_id: str, cluster_id: str | None, now_ms: int) -> JoinPolicy:
    conditions = body.conditions.model_dump(exclude_none=True)
    return JoinPolicy(
        join_policy_id=new_id("jp"),
        workspace_id=workspace_id,
        join_policy=body.join_policy,
        platform=body.platform,
        conditions=normal_conditions(Platform(body.platform), conditions),
        node_name=body.node_name,
        labels=dict(body.labels),
        cluster_id=cluster_id,
        reattestation=body.reattestation.model_dump(exclude_none=True),
        creation_time=now_ms,
    )


def _rules(record: JoinPolicy) -> dict[str, Any]:
    rules = {
        "platform": record.platform,
        "conditions": record.conditions,
        "node_name": record.node_name,
        "labels": record.labels,
        "cluster_id": record.cluster_id,
        "reattestation": record.reattestation,
    }
    return {name: value for name, value in rules.items() if value is not None}


def _in_order(rules: dict[str, Any]) -> dict[str, Any]:
    """Return rules of which those are equal that mean the same: in a condition, the order of the values does not."""
    conditions = {
        name: values if isinstance(values, dict) else sorted(set(values))
        for name, values in rules["conditions"].items()
    }
    return rules | {"conditions": conditions}


def _view(record: JoinPolicy) -> dict[str, Any]:
    return {
        "join_policy_id": record.join_policy_id,
        "join_policy": record.join_policy,
        **_rules(record),
        "creation_time": record.creation_time,
    }
