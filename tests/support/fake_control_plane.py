"""A control plane's API as clients see it, over TLS and in a thread of its own; the test makes the answers."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from aiohttp import web

from certs.chains import certificates_to_pem
from tests.support.identities import IdentityKit
from trunkline.client.sync import LoopThread

ACCOUNT = "ac-aaaaaaaaaaaaaaaaaaaa"
TOKEN = "operator-token-for-tests"
FINAL = frozenset({"SUCCEEDED", "FAILED", "TIMED_OUT", "CANCELLED", "LOST"})
DELIVER_BEFORE = 1_800_000_060_000
LOCK = {
    "lock_id": "lk-1", "kind": "node", "id": "nd-1", "reason": "odd", "state": "IN_FORCE", "sequence": 8,
    "creation_time": 1_800_000_000_000, "expire_time": 1_800_007_200_000, "locked_by": "operator/op-1",
}  # fmt: skip


@dataclass
class CannedCommand:
    """How a command goes on one node."""

    stdout: bytes = b""
    stderr: bytes = b""
    state: str = "SUCCEEDED"
    exit_code: int | None = 0
    signal: str | None = None
    reason: str | None = None
    waits: list[str] = field(default_factory=list)
    endless: bool = False
    cut_after_bytes: int | None = None
    not_kept: tuple[int, int] | None = None
    dropped_bytes: int = 0


@dataclass
class FakeControlPlane:
    """What it answers, and what it has been asked."""

    url: str = ""
    ca_file: Path = Path()
    nodes: list[dict[str, Any]] = field(default_factory=list)
    canned: dict[str, CannedCommand] = field(default_factory=dict)
    page_size: int = 2
    failures: list[web.Response] = field(default_factory=list)
    requests: list[tuple[str, str, Any]] = field(default_factory=list)
    commands: dict[str, dict[str, Any]] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)
    adoptions: list[dict[str, Any]] = field(default_factory=list)
    stopped: dict[str, str] = field(default_factory=dict)
    left: Callable[[], None] = lambda: None
    """End endless commands, and wait until whoever has asked has left: what a test has sent counts for no other."""
    _ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def environment(self) -> dict[str, str]:
        """What the command line needs to find it."""
        return {
            "TRUNKLINE_CONTROL_PLANE_URL": self.url,
            "TRUNKLINE_TOKEN": TOKEN,
            "TRUNKLINE_CA_FILE": str(self.ca_file),
            "TRUNKLINE_WORKSPACE": "main",
        }

    def add_node(self, name: str, canned: CannedCommand | None = None, **labels: str) -> None:
        self.nodes.append({"node_id": f"nd-{name}", "node": name, "state": "online", "labels": labels, "new_field": 1})
        self.canned[name] = canned or CannedCommand()

    def application(self) -> web.Application:
        application = web.Application(middlewares=[self._guard])
        routes = application.router
        account, workspace = f"/api/2.0/accounts/{ACCOUNT}", "/w/main/api/2.0"
        routes.add_get("/api/2.0/accounts", self._account)
        routes.add_post(f"{account}/workspaces", self._echo)
        routes.add_get(f"{account}/workspaces/{{name}}", self._workspace)
        routes.add_delete(f"{account}/workspaces/{{name}}", self._nothing)
        routes.add_get(f"{account}/workspaces/{{name}}/quotas", self._quotas)
        routes.add_put(f"{account}/workspaces/{{name}}/quotas", self._quotas)
        routes.add_post(f"{account}/relay-join-tokens", self._join_token)
        routes.add_post("/api/2.0/revocations", self._revoke)
        routes.add_post(f"{account}/secrets/rotate-key", self._secret)
        routes.add_route("*", f"{workspace}/secrets/{{what:.*}}", self._secret)
        routes.add_get("/api/2.0/revocations", self._revocations)
        routes.add_get("/api/2.0/revocations/{kind}/{id}", self._revocation)
        routes.add_post("/api/2.0/locks", self._lock)
        routes.add_get("/api/2.0/locks", self._locks)
        routes.add_get("/api/2.0/locks/{id}", self._get_lock)
        routes.add_delete("/api/2.0/locks/{id}", self._lift)
        routes.add_get(f"{workspace}/nodes", self._nodes)
        routes.add_get(f"{workspace}/nodes/{{name}}", self._node)
        routes.add_delete(f"{workspace}/nodes/{{name}}", self._nothing)
        routes.add_post(f"{workspace}/join-tokens", self._join_token)
        routes.add_post(f"{workspace}/join-policies", self._join_policy)
        routes.add_get(f"{workspace}/join-policies", self._join_policies)
        routes.add_get(f"{workspace}/join-policies/{{name}}", self._join_policy)
        routes.add_delete(f"{workspace}/join-policies/{{name}}", self._nothing)
        for scripts in ("global-init-scripts", "clusters/red/init-scripts"):
            routes.add_post(f"{workspace}/{scripts}", self._init_script)
            routes.add_get(f"{workspace}/{scripts}", self._init_scripts)
            routes.add_get(f"{workspace}/{scripts}/{{name}}", self._init_script)
            routes.add_patch(f"{workspace}/{scripts}/{{name}}", self._init_script)
            routes.add_delete(f"{workspace}/{scripts}/{{name}}", self._nothing)
        routes.add_post(f"{workspace}/nodes/{{name}}/init", self._node_init)
        routes.add_get(f"{workspace}/join-requests", self._join_requests)
        routes.add_post(f"{workspace}/join-requests/{{id}}/{{verb}}", self._join_request)
        routes.add_post(f"{workspace}/tokens/{{kind}}", self._token)
        routes.add_post(f"{workspace}/commands", self._submit)
        routes.add_get(f"{workspace}/commands/{{id}}", self._command)
        routes.add_get(f"{workspace}/commands/{{id}}/output", self._output)
        routes.add_post(f"{workspace}/commands/{{id}}/cancel", self._cancel)
        routes.add_get(f"{workspace}/commands/{{id}}/events", self._events)
        routes.add_get(f"{workspace}/submissions", self._submissions)
        routes.add_get(f"{workspace}/submissions/{{id}}", self._submission)
        routes.add_get(f"{workspace}/submissions/{{id}}/commands", self._submission_commands)
        routes.add_post(f"{workspace}/submissions/{{id}}/cancel", self._cancel_submission)
        return application

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        raw = await request.read()
        self.requests.append((request.method, request.path_qs, json.loads(raw) if raw else None))
        if self.failures:
            return self.failures.pop(0)
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return error(401, "UNAUTHENTICATED", "the token is not known")
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _account(self, request: web.Request) -> web.Response:
        return web.json_response({"account_id": ACCOUNT})

    async def _echo(self, request: web.Request) -> web.Response:
        body = await request.json()
        return web.json_response({"workspace_id": "ws-1", "creation_time": 1_800_000_000_000, **body}, status=201)

    async def _workspace(self, request: web.Request) -> web.Response:
        return web.json_response({"workspace_id": "ws-1", "workspace": request.match_info["name"]})

    async def _quotas(self, request: web.Request) -> web.Response:
        return web.json_response({"workspace": {"calls_per_second": 5}, "sender": {"concurrent_calls": 2}})

    async def _nothing(self, request: web.Request) -> web.Response:
        return web.json_response({})

    async def _join_token(self, request: web.Request) -> web.Response:
        return web.json_response({"join_token": "tlj-secret", "expire_time": 1_800_000_000_000}, status=201)

    async def _join_policy(self, request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else {"join_policy": "web", "platform": "azure"}
        return web.json_response({"join_policy_id": "jp-1", **body}, status=201)

    async def _join_policies(self, request: web.Request) -> web.Response:
        policy = {"join_policy_id": "jp-1", "join_policy": "web", "platform": "azure", "conditions": {"tags": {}}}
        return web.json_response({"join_policies": [policy]})

    async def _init_script(self, request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else {"name": "setup", "script": "ZWNobyBoaQo="}
        return web.json_response({"script_id": "is-1", "position": 3, "name": "setup", **body}, status=201)

    async def _init_scripts(self, request: web.Request) -> web.Response:
        return web.json_response({"scripts": [{"script_id": "is-1", "name": "setup", "enabled": True}]})

    async def _node_init(self, request: web.Request) -> web.Response:
        """Begin the run that is asked for; the node has the outcome that the test gave it."""
        run = (await request.json())["run"]
        [node] = [node for node in self.nodes if request.match_info["name"] == node["node_id"]]
        node["init"] = {"run": run, **node.pop("outcome", {"state": "READY"})}
        return web.json_response({"run": run, "state": "PENDING"}, status=201)

    async def _join_requests(self, request: web.Request) -> web.Response:
        return web.json_response({"join_requests": [{"join_request_id": "jq-1", "state": "pending"}]})

    async def _join_request(self, request: web.Request) -> web.Response:
        return web.json_response({"join_request_id": request.match_info["id"], "state": request.match_info["verb"]})

    async def _token(self, request: web.Request) -> web.Response:
        relays = [{"relay_id": "rl-1", "url": "https://relay.test"}]
        return web.json_response({"token": "secret-token", "expire_time": 1_800_000_000_000, "relays": relays})

    async def _revoke(self, request: web.Request) -> web.Response:
        return web.json_response({"sequence": 7})

    async def _secret(self, request: web.Request) -> web.Response:
        answers: dict[str | None, dict[str, Any]] = {
            None: {"key_id": "kek-1", "workspaces": 2},
            "put": {"version": 7},
            "scopes/create": {"name": "db"},
            "scopes/list": {"scopes": [{"name": "db"}]},
            "list": {"secrets": [{"key": "password", "version": 7}]},
            "grants/put": {"scope": "db", "target": {"node": "vm-1"}},
            "grants/list": {"grants": [{"scope": "db", "target": {"node": "vm-1"}}]},
            "adoption": {"version": 7, "nodes": [{"node": "vm-1", "state": "adopted", "version": 7}]},
        }
        return web.json_response(answers.get(request.match_info.get("what"), {}))

    async def _revocation(self, request: web.Request) -> web.Response:
        return web.json_response({**request.match_info, "sequence": 7, "adoption": self._adoption()})

    async def _revocations(self, request: web.Request) -> web.Response:
        """Three revocations, a page each, of the kind that is asked for."""
        kind, number = request.query.get("kind", "token"), int(request.query.get("page_token", 1))
        entry = {"kind": kind, "id": f"jti-{number}", "sequence": number, "creation_time": 1_800_000_000_000}
        following = {"next_page_token": str(number + 1)} if number < 3 else {}
        return web.json_response({"revocations": [entry], **following})

    async def _lock(self, request: web.Request) -> web.Response:
        return web.json_response(LOCK | {name: (await request.json())[name] for name in ("kind", "id", "reason")})

    async def _locks(self, request: web.Request) -> web.Response:
        return web.json_response({"locks": [LOCK]})

    async def _get_lock(self, request: web.Request) -> web.Response:
        return web.json_response(LOCK | {"adoption": self._adoption()})

    async def _lift(self, request: web.Request) -> web.Response:
        return web.json_response(LOCK | {"state": "LIFTED", "lift_sequence": 9})

    def _adoption(self) -> dict[str, Any]:
        """What is said of adoption: each in turn, the last for ever."""
        return self.adoptions.pop(0) if len(self.adoptions) > 1 else (self.adoptions or [{"complete": True}])[0]

    async def _nodes(self, request: web.Request) -> web.Response:
        start = int(request.query.get("page_token", 0))
        page = self.nodes[start : start + self.page_size]
        following = {"next_page_token": str(start + self.page_size)} if start + self.page_size < len(self.nodes) else {}
        return web.json_response({"nodes": page, **following})

    async def _node(self, request: web.Request) -> web.Response:
        found = [node for node in self.nodes if request.match_info["name"] in (node["node"], node["node_id"])]
        return web.json_response(found[0]) if found else error(404, "RESOURCE_DOES_NOT_EXIST", "there is no such node")

    async def _submit(self, request: web.Request) -> web.Response:
        body = await request.json()
        target = body["target"]
        chosen = [node for node in self.nodes if target.get("all") or target.get("node") == node["node"]]
        if not chosen:
            return error(400, "INVALID_PARAMETER_VALUE", "target: no node of the workspace matches it")
        answer = []
        for node in chosen:
            identifier = body["command_id"] if "node" in target else f"{body['command_id']}.{node['node_id']}"
            command = {"command_id": identifier, "node": node["node"], "node_id": node["node_id"], "state": "RUNNING"}
            command["submission_id"] = body["command_id"]
            answer.append(
                self.commands.setdefault(
                    identifier, command | {name: body[name] for name in ("argv", "named", "parameters") if name in body}
                )
            )
        return web.json_response({"submission_id": body["command_id"], "commands": answer})

    def _submitted(self, request: web.Request) -> list[dict[str, Any]]:
        """The commands of the submission that the path names; held ones begin once all others have ended."""
        found = [one for one in self.commands.values() if one["submission_id"] == request.match_info["id"]]
        if found and all(one["state"] in FINAL for one in found if not one.get("held")):
            for one in found:
                one.pop("held", None)
        return found

    async def _submission(self, request: web.Request) -> web.Response:
        found = self._submitted(request)
        if not found:
            return error(404, "RESOURCE_DOES_NOT_EXIST", "there is no such submission")
        counts = Counter(one["state"] for one in found)
        state = "SUCCEEDED" if set(counts) == {"SUCCEEDED"} else "FAILED" if set(counts) <= FINAL else "RUNNING"
        view = {"submission_id": request.match_info["id"], "state": state, "nodes": len(found), "counts": counts}
        if "wave" in found[0]:
            waves = [{"wave": wave, "nodes": 1} for wave in sorted({one["wave"] for one in found})]
            under_way = max(one["wave"] for one in found if not one.get("held"))
            view["rollout"] = {"canary": True, "max_concurrent": 1, "wave": under_way, "waves": waves}
        return web.json_response(view | self.stopped | {"revision": str(len(self.requests))})

    async def _submissions(self, request: web.Request) -> web.Response:
        listed = [{"submission_id": "s-1", "state": "RUNNING", "argv": ["true"], "nodes": 2, "counts": {"RUNNING": 2}}]
        return web.json_response({"submissions": listed})

    async def _submission_commands(self, request: web.Request) -> web.Response:
        found = self._submitted(request)
        if not found:
            return error(404, "RESOURCE_DOES_NOT_EXIST", "there is no such submission")
        return web.json_response({"commands": [self._as_found(one) for one in found]})

    async def _cancel_submission(self, request: web.Request) -> web.Response:
        for command in self._submitted(request):
            self.cancelled.append(command["command_id"])
            command["state"] = "CANCELLED"
        self._ended.set()
        return await self._submission(request)

    async def _command(self, request: web.Request) -> web.Response:
        if request.match_info["id"] not in self.commands:
            return error(404, "RESOURCE_DOES_NOT_EXIST", "there is no such command")
        return web.json_response(self._as_found(self.commands[request.match_info["id"]]))

    def _as_found(self, command: dict[str, Any]) -> dict[str, Any]:
        waits = self.canned[command["node"]].waits
        if waits:
            return command | {"state": "UNKNOWN", "reason": waits.pop(0), "deliver_before": DELIVER_BEFORE}
        return command

    async def _output(self, request: web.Request) -> web.StreamResponse:
        command = self.commands[request.match_info["id"]]
        canned = self.canned[command["node"]]
        content = canned.stdout if request.query["stream"] == "stdout" else canned.stderr
        offset = int(request.query.get("offset", 0))
        if "tail" in request.query:
            offset = max(0, len(content) - int(request.query["tail"]))
        while canned.waits:  # noqa: ASYNC110 - until it has been asked for as often
            await asyncio.sleep(0.01)
        response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
        if canned.not_kept is not None:
            begin, end = canned.not_kept
            response.headers["Trunkline-Cut"] = f"{max(begin, offset)}-{end}"
            content = content[:begin] if offset < begin else content
        response.headers["Trunkline-Offset"], response.headers["Trunkline-Size"] = str(offset), str(len(content))
        await response.prepare(request)
        if canned.cut_after_bytes is not None and offset == 0 and content:
            await response.write(content[: canned.cut_after_bytes])
            assert request.transport is not None
            request.transport.abort()
            return response
        length = int(request.query.get("length", len(content)))
        await response.write(content[offset : offset + length])
        if canned.endless:
            await self._ended.wait()
        if command["state"] == "RUNNING":
            ending = {"exit_code": canned.exit_code, "signal": canned.signal, "reason": canned.reason}
            command |= {"state": canned.state, "stdout_dropped_bytes": canned.dropped_bytes} | {
                name: value for name, value in ending.items() if value is not None
            }
        await response.write_eof()
        return response

    async def _events(self, request: web.Request) -> web.Response:
        kinds = ["recorded", "delivered", "ended"]
        events = [{"event_id": n, "time": 1_800_000_000_000, "event": kind} for n, kind in enumerate(kinds, 1)]
        events[-1]["details"] = {"state": "FAILED", "exit_code": 3}
        if "follow" in request.query:
            return web.Response(text="".join(json.dumps(event) + "\n" for event in events))
        return web.json_response({"events": events})

    async def _cancel(self, request: web.Request) -> web.Response:
        if request.match_info["id"] not in self.commands:
            return error(404, "RESOURCE_DOES_NOT_EXIST", "there is no such command")
        command = self.commands[request.match_info["id"]]
        self.cancelled.append(command["command_id"])
        self._ended.set()
        command["state"] = "CANCELLED"
        return web.json_response(command)


def error(status: int, code: str, message: str, **headers: str) -> web.Response:
    return web.json_response({"error_code": code, "message": message}, status=status, headers=headers)


@contextmanager
def fake_control_plane(directory: Path, *, as_relay: bool = False) -> Iterator[FakeControlPlane]:
    """A running fake, its CA file in `directory`; `as_relay` with a relay's certificate for its host."""
    kit = IdentityKit(directory)
    fake = FakeControlPlane(ca_file=directory / "ca.pem")
    fake.ca_file.write_text(certificates_to_pem(kit.roots))
    thread = LoopThread()
    runner = web.AppRunner(fake.application(), shutdown_timeout=0.1)

    async def start() -> None:
        await runner.setup()
        tls = kit.server_tls(kit.issue_relay() if as_relay else kit.issue_control_plane())
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls.context)
        await site.start()
        fake.url = f"https://localhost:{runner.addresses[0][1]}"

    async def left() -> None:
        fake._ended.set()
        async with asyncio.timeout(30):
            while cast(web.Server, runner.server).connections:  # noqa: ASYNC110 - nobody sets an event for us there
                await asyncio.sleep(0.002)
        fake._ended.clear()

    thread.run(start())
    fake.left = lambda: thread.run(left())
    try:
        yield fake
    finally:
        thread.run(runner.cleanup())
        thread.stop()
