"""What operators ask for is taken strictly, on every route: a parameter that is not known is no request."""

import gzip

import pytest

from control_plane.api.callers import Role
from tests.control_plane.api.test_not_found import BODIES, PLACEHOLDER
from tests.support.control_planes import RunningControlPlane


async def test_a_parameter_that_a_route_does_not_know_is_refused_before_anything_is_done(plane: RunningControlPlane):
    await plane.node("vm-1")
    await plane.ok("POST", "/w/finance/api/2.0/clusters", {"cluster": "red", "nodes": ["vm-1"]})
    known = {"account": plane.foundation.account_id, "workspace": "finance", "node": "vm-1", "cluster": "red"}
    for route in plane.control_plane.routes:
        if route.role is not Role.OPERATOR:
            continue
        name = f"{route.method} {route.path}"
        path = PLACEHOLDER.sub(lambda found: known.get(found[1], "unknown"), route.path)
        answer = await plane.call(route.method, f"{path}?dry_run=true", BODIES.get(name))
        assert (answer.status, answer.error_code) == (400, "INVALID_PARAMETER_VALUE"), (name, answer)
        assert {"field": "dry_run", "problem": "unknown key"} in answer.document["details"], name
    await plane.ok("GET", "/w/finance/api/2.0/nodes/vm-1")


async def test_what_is_asked_for_in_the_body_of_a_get_is_not_passed_over(plane: RunningControlPlane):
    routes = [route for route in plane.control_plane.routes if route.role is Role.OPERATOR and route.method == "GET"]
    for route in routes:
        answer = await plane.call("GET", PLACEHOLDER.sub("unknown", route.path), {"state": "offline"})
        assert (answer.status, answer.error_code) == (400, "MALFORMED_REQUEST"), (route.path, answer)
    await plane.ok("GET", f"{plane.account}/workspaces", {})


async def test_a_compressed_body_is_told_as_such(plane: RunningControlPlane):
    headers = {"Authorization": f"Bearer {plane.operator_token}", "Content-Encoding": "gzip"}
    body = gzip.compress(b'{"workspace": "legal"}')
    request = plane.session().post(
        f"{plane.url}{plane.account}/workspaces", data=body, headers=headers, skip_auto_headers=["Content-Type"]
    )
    async with request as response:
        answer = await response.json()
    assert (response.status, answer["error_code"]) == (400, "MALFORMED_REQUEST")
    assert "Content-Encoding" in answer["message"]


async def test_a_parameter_given_twice_is_among_the_details(plane: RunningControlPlane):
    answer = await plane.call("GET", f"{plane.account}/workspaces?page_size=1&page_size=2")
    assert answer.document["details"] == [{"field": "page_size", "problem": "given more than once"}]


async def test_a_slash_too_many_is_told(plane: RunningControlPlane):
    answer = await plane.call("GET", f"{plane.account}/workspaces/")
    assert (answer.status, answer.error_code) == (404, "ENDPOINT_NOT_FOUND")
    assert "slash" in answer.document["message"]


async def test_what_aiohttp_answers_by_itself_has_a_request_id_too(plane: RunningControlPlane):
    async with plane.session().get(plane.url, headers={"Expect": "tea"}) as response:
        assert (response.status, response.headers["Trunkline-Request-Id"][:3]) == (417, "rq-")


@pytest.mark.parametrize("since", [2**53 + 1, 10**20])
async def test_a_time_beyond_all_times_is_refused(plane: RunningControlPlane, since: int):
    answer = await plane.call("GET", f"{plane.account}/audit-events?since_time={since}")
    assert (answer.status, answer.error_code) == (400, "INVALID_PARAMETER_VALUE")


async def test_the_methods_of_a_path_are_told(plane: RunningControlPlane):
    answer = await plane.call("PUT", f"{plane.account}/workspaces", {})
    assert (answer.status, answer.headers.get("Allow")) == (405, "GET, POST")
