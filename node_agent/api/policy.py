"""`GET /v1/policy`: what the node's owner allows, narrowed by the control plane, so that callers need not try."""

from typing import Any

from aiohttp import web

from node_agent.api.routing import json_response
from node_agent.commands.accounts import default_user
from node_agent.policy import Policy
from node_agent.policy_file import PolicySource


class PolicyApi:
    """Answers what is allowed."""

    def __init__(self, policy: PolicySource) -> None:
        self._policy = policy

    async def policy(self, request: web.Request) -> web.StreamResponse:
        """Answer `GET /v1/policy`."""
        return json_response(view_policy(self._policy.current))


def view_policy(policy: Policy) -> dict[str, Any]:
    """Return a policy as the API shows it: its own keys, with the user that commands run as, and checks by name only.

    What a check's program is given may be meant for the owner alone; a named command's argument list is shown, as it is
    with each command that runs.
    """
    document: dict[str, Any] = policy.model_dump(mode="json", exclude_none=True, exclude={"checks"})
    document["commands"]["run_as"] = default_user(policy.commands.run_as)
    document["shell"]["enabled"] = policy.allows_shells
    document["files"] |= {"read": policy.allows_reading_files, "write": policy.allows_writing_files}
    run_as = policy.init.run_as or document["commands"]["run_as"]
    document["init"] |= {"enabled": policy.init_enabled, "run_as": run_as}
    document["checks"] = [check.name for check in policy.checks]
    return document
