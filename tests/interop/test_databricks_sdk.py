"""The real databricks-sdk at a real control plane: its errors, its pages, its patience, and the services it shares."""

import asyncio
import base64
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from control_plane.api.pages import DEFAULT_PAGE_SIZE
from control_plane.settings import CommandSettings
from tests.support.control_planes import RunningControlPlane, running_control_plane, settings_for

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(
        importlib.util.find_spec("databricks") is None,
        reason="databricks-sdk is not installed: see requirements/dev.lock",
    ),
]

CALLS = Path(__file__).parent / "sdk_peer" / "calls.py"
SCRIPT = base64.b64encode(b"#!/bin/sh\ntrue\n").decode()
API = "/api/2.0"


async def outcomes(plane: RunningControlPlane, *calls: dict[str, Any]) -> list[dict[str, Any]]:
    """What the SDK makes of the calls, to the workspace `finance`, in a process of its own."""
    state = plane.settings.state_directory
    environment = {"PATH": os.environ["PATH"], "HOME": str(state), "REQUESTS_CA_BUNDLE": str(state / "ca.pem")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(CALLS), env=environment, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    wanted = {"host": f"{plane.url}/w/finance", "token": plane.operator_token, "calls": calls}
    answer, _ = await process.communicate(json.dumps(wanted).encode())
    assert process.returncode == 0
    return list(json.loads(answer))


def do(method: str, path: str, **options: Any) -> dict[str, Any]:
    return {"do": [method, API + path], **options}


def use(method: str, /, **arguments: Any) -> dict[str, Any]:
    return {"use": method, "with": arguments}


def tried_once(raised: str, error_code: str) -> dict[str, Any]:
    return {"raised": raised, "error_code": error_code, "slept": []}


@pytest.fixture
async def finance(plane: RunningControlPlane) -> RunningControlPlane:
    await plane.node("vm-1")
    await plane.ok("POST", f"/w/finance{API}/clusters", {"cluster": "red"})
    return plane


@pytest.fixture
async def plane(tmp_path: Path):
    async with running_control_plane(tmp_path) as running:
        yield running


REFUSALS = [
    (do("GET", "/nodes", query={"colour": "red"}), "InvalidParameterValue", "INVALID_PARAMETER_VALUE"),
    (do("POST", "/clusters", body={"cluster": 1}), "InvalidParameterValue", "INVALID_PARAMETER_VALUE"),
    (do("GET", "/nodes", query={"page_token": "x"}), "InvalidParameterValue", "INVALID_PARAMETER_VALUE"),
    (do("GET", "/nodes", body={"state": "online"}), "BadRequest", "MALFORMED_REQUEST"),
    (do("DELETE", "/clusters/blue"), "ResourceDoesNotExist", "RESOURCE_DOES_NOT_EXIST"),
    (do("POST", "/clusters", body={"cluster": "red", "nodes": ["vm-1"]}), "ResourceConflict", "RESOURCE_CONFLICT"),
    (do("GET", "/nodes", token="tlo-wrong"), "Unauthenticated", "UNAUTHENTICATED"),
    (do("GET", "/jobs/list"), "NotFound", "ENDPOINT_NOT_FOUND"),
    (do("PUT", "/clusters"), "DatabricksError", "METHOD_NOT_ALLOWED"),
    (use("secrets.get_secret", scope="db", key="k"), "NotFound", "ENDPOINT_NOT_FOUND"),
]


async def test_refusals_are_its_exceptions_and_none_is_tried_again(finance: RunningControlPlane):
    made = await outcomes(finance, *(call for call, _, _ in REFUSALS))
    assert made == [tried_once(raised, error_code) for _, raised, error_code in REFUSALS]


async def test_its_services_of_secrets_and_init_scripts(finance: RunningControlPlane):
    await finance.ok("POST", f"/w/finance{API}/secrets/scopes/create", {"scope": "many"})
    for number in range(DEFAULT_PAGE_SIZE + 1):
        body = {"scope": "many", "key": f"key-{number}", "string_value": "v"}
        await finance.ok("POST", f"/w/finance{API}/secrets/put", body)
    made = await outcomes(
        finance,
        use("secrets.create_scope", scope="db"),
        use("secrets.create_scope", scope="db"),
        use("secrets.put_secret", scope="db", key="password", string_value="v"),
        use("secrets.list_scopes"),
        use("secrets.list_secrets", scope="many"),
        use("secrets.delete_secret", scope="db", key="password"),
        use("global_init_scripts.create", name="setup", script=SCRIPT, enabled=True),
        use("global_init_scripts.list"),
        use("global_init_scripts.get", script_id="setup"),
        use("global_init_scripts.update", script_id="setup", name="renamed", script=SCRIPT),
        use("global_init_scripts.delete", script_id="renamed"),
        {"every": [f"{API}/secrets/list", "secrets"], "query": {"scope": "many", "page_size": 10}},
    )
    assert [one for one in made if "raised" in one or one["slept"]] == []
    results = [one["result"] for one in made]
    assert [scope["name"] for scope in results[3]] == ["db", "many"]
    assert len(results[4]) == len(results[11]) == DEFAULT_PAGE_SIZE + 1
    assert [script["name"] for script in results[7]] == ["setup"]
    assert (results[8]["script"], results[8]["enabled"]) == (SCRIPT, True)


async def test_it_waits_for_what_passes_and_for_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("control_plane.api.init_scripts.MOST_GLOBAL_SCRIPTS", 0)
    commands = CommandSettings(most_open_per_workspace=1)
    settings = settings_for(tmp_path).model_copy(update={"commands": commands})
    async with running_control_plane(tmp_path, settings=settings) as plane:
        await plane.node("vm-1")
        submit = do("POST", "/commands", body={"target": {"node": "vm-1"}, "argv": ["true"]})
        create = use("global_init_scripts.create", name="setup", script=SCRIPT)
        submitted, busy, full = await outcomes(plane, submit, submit, create)
    assert submitted["result"]["commands"][0]["state"] == "QUEUED"
    assert (busy["raised"], busy["error_code"]) == ("TimeoutError", "RESOURCE_EXHAUSTED")
    assert all(10 <= seconds <= 11 for seconds in busy["slept"])  # `Retry-After: 10`, and up to a second of its own
    assert full == tried_once("BadRequest", "RESOURCE_LIMIT_EXCEEDED")
