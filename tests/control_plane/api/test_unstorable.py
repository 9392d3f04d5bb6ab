"""What no database takes as text is refused at the edge, wherever a request has it."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from control_plane.api.callers import Role
from tests.support.control_planes import RunningControlPlane, running_control_plane


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[RunningControlPlane]:
    async with running_control_plane(tmp_path) as running:
        yield running


async def test_in_a_path(plane: RunningControlPlane):
    for route in plane.control_plane.routes:
        path = re.sub(r"\{[a-z_]+\}", "a%00b", route.path)
        if path == route.path:
            continue
        answer = await plane.call(route.method, path, {} if route.method == "POST" else None)
        found = (route.method, route.path, answer.status, answer.error_code)
        assert found == (route.method, route.path, 400, "INVALID_PARAMETER_VALUE")
        assert "NUL" in answer.document["message"]


async def test_in_a_query(plane: RunningControlPlane):
    await plane.workspace()
    for route in plane.control_plane.routes:
        if not route.query or route.role is not Role.OPERATOR:
            continue
        path = route.path.replace("{account}", plane.foundation.account_id).replace("{workspace}", "finance")
        for name in ("page_token", "node", "actor", "kind", "state", "label"):
            answer = await plane.call(route.method, f"{re.sub(r'{[a-z_]+}', 'x', path)}?{name}=a%00b")
            assert answer.status == 400, (route.path, name, answer)


BODIES: list[tuple[str, dict[str, Any]]] = [
    ("/api/2.0/locks", {"kind": "token", "id": "a\0b", "lifetime_seconds": 60, "reason": "r"}),
    ("/api/2.0/locks", {"kind": "token", "id": "a", "lifetime_seconds": 60, "reason": "a\0b"}),
    ("/api/2.0/revocations", {"kind": "token", "id": "a\0b"}),
    ("/w/finance/api/2.0/commands", {"target": {"node": "a\0b"}, "argv": ["true"]}),
    ("/w/finance/api/2.0/commands", {"target": {"cluster": "a\0b"}, "argv": ["true"]}),
    ("/w/finance/api/2.0/commands", {"target": {"selector": {"k": "a\0b"}}, "argv": ["true"]}),
    ("/w/finance/api/2.0/commands", {"target": {"node": "n"}, "argv": ["a\0b"]}),
    ("/w/finance/api/2.0/clusters", {"cluster": "c", "nodes": ["a\0b"]}),
    ("/w/finance/api/2.0/join-tokens", {"lifetime_seconds": 60, "cluster": "a\0b"}),
]


@pytest.mark.parametrize(("path", "body"), BODIES)
async def test_in_a_body(plane: RunningControlPlane, path: str, body: dict[str, Any]):
    await plane.workspace()
    answer = await plane.call("POST", path, body)
    assert (answer.status, answer.error_code) == (400, "INVALID_PARAMETER_VALUE"), answer
    assert "NUL" in answer.document["message"]
    halves = json.dumps(body).replace("\\u0000", "\\ud800").encode()
    answer = await plane.call("POST", path, raw=halves)
    assert (answer.status, answer.error_code) == (400, "MALFORMED_REQUEST"), answer
