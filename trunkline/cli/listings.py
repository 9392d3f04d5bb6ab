"""Which command lists what the control plane names by the path of its API, such as `GET /w/main/api/2.0/nodes`."""

from __future__ import annotations

import re

_EVERYWHERE = {"/api/2.0/locks": "lock list", "/api/2.0/revocations": "revocation list"}
_ACCOUNT = {
    "workspaces": "workspace list",
    "relays": "relays list",
    "rotations": "ca status",
    "rotations/signing-key": "signing-key status",
}
_WORKSPACE = {
    "nodes": "node list",
    "clusters": "cluster list",
    "commands": "command list",
    "submissions": "submission list",
    "global-init-scripts": "init-script list",
    "join-tokens": "join-token list",
    "join-policies": "join-policy list",
    "join-requests": "join-request list",
    "secrets/scopes/list": "secret list-scopes",
    "secrets/list?scope=…": "secret list SCOPE",
    "secrets/grants/list?scope=…": "secret grants SCOPE",
}
_REQUEST = re.compile(r"\bGET (/\S+)")
_ROUTE = re.compile(r"(?:/w/(?P<workspace>[^/]+))?/api/2\.0/(?:accounts/[^/]+/)?(?P<rest>.+)")
_SCRIPTS_OF_CLUSTER = re.compile(r"clusters/([^/]+)/init-scripts")


def with_commands(message: str) -> str:
    """A message in which commands stand in the place of requests that do the same; others stay as they are."""
    return _REQUEST.sub(lambda found: _command(found[1]) or found[0], message)


def _command(path: str) -> str | None:
    route = _ROUTE.fullmatch(path)
    if route is None:
        return None
    rest, workspace = route["rest"], route["workspace"]
    if workspace is None:
        words = _EVERYWHERE.get(path) or _ACCOUNT.get(rest)
        return words and f"`trunkline {words}`"
    scripts = _SCRIPTS_OF_CLUSTER.fullmatch(rest)
    words = f"cluster init-scripts list {scripts[1]}" if scripts is not None else _WORKSPACE.get(rest)
    return words and f"`trunkline {words} -w {workspace}`"
