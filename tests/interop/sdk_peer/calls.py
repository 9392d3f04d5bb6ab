"""Calls to a control plane by databricks-sdk, as its users write them; what to call comes on standard input.

That is `{"host", "token", "calls": [...]}`. A call is `{"do": [method, path], "query"?, "body"?}` of the plain client,
`{"every": [path, field], "query"?}` for what all pages of a list hold, or `{"use": "secrets.put_secret", "with": {}}`;
with a `token` of its own, if it has one. Out goes a list with, for each, `result`, or the exception it `raised` with
its `error_code`, and for how long the client `slept` before it asked again: its clock runs on by itself.
"""

import json
import sys
from typing import Any

from databricks.sdk import WorkspaceClient
from databricks.sdk.clock import Clock
from databricks.sdk.core import Config


class HastyClock(Clock):
    """A clock on which sleeping takes no time."""

    def __init__(self) -> None:
        self._now = 0.0
        self.slept: list[float] = []

    def time(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += seconds
        self.slept.append(seconds)


def every(client: WorkspaceClient, path: str, field: str, query: dict[str, Any]) -> list[Any]:
    """Walk through a list as the SDK's own services do, but from an empty token on."""
    found, page_token = [], ""
    while True:
        page = client.api_client.do("GET", path, query={**query, "page_token": page_token})
        found += page.get(field, [])
        if "next_page_token" not in page or not page["next_page_token"]:
            return found
        page_token = page["next_page_token"]


def made(client: WorkspaceClient, call: dict[str, Any]) -> Any:
    if "do" in call:
        return client.api_client.do(*call["do"], query=call.get("query"), body=call.get("body"))
    if "every" in call:
        path, field = call["every"]
        return every(client, path, field, call.get("query", {}))
    service, _, name = call["use"].partition(".")
    answer = getattr(getattr(client, service), name)(**call.get("with", {}))
    if answer is None or hasattr(answer, "as_dict"):
        return answer and answer.as_dict()
    return [one.as_dict() for one in answer]


def told(host: str, token: str, call: dict[str, Any]) -> dict[str, Any]:
    clock = HastyClock()
    client = WorkspaceClient(config=Config(host=host, token=call.get("token", token), clock=clock))
    try:
        outcome = {"result": made(client, call)}
    except OSError as error:  # as are all of its own
        cause = error.__cause__ if isinstance(error, TimeoutError) else error
        outcome = {"raised": type(error).__name__, "error_code": getattr(cause, "error_code", None)}
    return outcome | {"slept": clock.slept}


def main() -> None:
    wanted = json.load(sys.stdin)
    json.dump([told(wanted["host"], wanted["token"], call) for call in wanted["calls"]], sys.stdout)


if __name__ == "__main__":
    main()
