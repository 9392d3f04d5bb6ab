"""An agent's API as the control plane sees it through a relay's link, in memory; every way of failing can be told."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from certs.bindings import Binding
from certs.claims import TokenKind
from certs.tokens import TokenClaims, TokenVerifier
from tests.support.canned_relay import CannedCall, CannedRelay
from trunkline.channel.outcomes import Outcome, relay_response

_NO_LINK = b'{"error_code":"NODE_UNREACHABLE","message":"no link here"}'
NO_LISTENER = (
    b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
    b'Proxy-Status: trunkline-relay; error=destination_unavailable; details="no link"\r\n\r\n' % len(_NO_LINK)
) + _NO_LINK
CUT = {"cut by a lock": Outcome.CUT_LOCKED, "cut by a revocation": Outcome.CUT_REVOKED}


@dataclass
class FakeAgent:
    """All nodes at once: commands by (host, id), and how the next calls fail."""

    verifier: TokenVerifier | None = None
    commands: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    bodies: dict[tuple[str, str], bytes] = field(default_factory=dict)
    output: dict[str, bytes] = field(default_factory=lambda: {"stdout": b"ok\n"})
    state: str = "SUCCEEDED"
    status: str = "ok"
    health: dict[str, Any] = field(default_factory=lambda: {"agent_version": "9.9"})
    policy: Any = field(default_factory=lambda: {"commands": {"allow": "any"}, "node": "another"})
    mode: dict[str, str] = field(default_factory=dict)
    calls: list[tuple[str, str, str]] = field(default_factory=list)
    claims: list[TokenClaims] = field(default_factory=list)
    hold: asyncio.Event = field(default_factory=asyncio.Event)
    cut_output_after: int | None = None
    offline_after_cut: bool = False
    owed_bytes: int = 0
    states_sizes: bool = True
    offline_after: str | None = None
    revisions: bool = False
    stdin: dict[str, bytearray] = field(default_factory=dict)
    stdin_room: int = 1 << 40
    stdin_closed: bool = False
    times: list[tuple[int, int]] = field(default_factory=list)
    watching: int = 0
    restless: bool = False
    refusal: dict[str, Any] = field(default_factory=dict)

    def relay(self) -> CannedRelay:
        """A relay all of whose streams end here."""
        return CannedRelay(self.answer)

    def count(self, method: str, end: str = "") -> int:
        return sum(1 for called, _, path in self.calls if called == method and path.endswith(end))

    async def answer(self, call: CannedCall) -> None:
        method, target = call.head.method.decode(), call.head.target.decode()
        host = (call.head.get(b"host") or b"").decode()
        length = int(call.head.get(b"content-length") or b"0")
        body = await call.reader.readexactly(length) if length else b""
        self.calls.append((method, host, target))
        mode = self.mode.get(host, self.mode.get(f"{method} *", self.mode.get("*", "")))
        if mode == "offline":
            call.answer(NO_LISTENER)
            return
        if mode in CUT:
            call.answer(relay_response(CUT[mode], "it was cut", request_id="r"))
            return
        if mode == "reset before":
            call.reset()
            return
        if mode == "silent":
            await self.hold.wait()
            return
        if mode.isdigit():
            _json(call, int(mode), {"error_code": "SOMETHING", "message": "the policy refuses it", **self.refusal})
            return
        if mode == "garbage":
            call.answer(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
            return
        self._check(call, host, method, target, body)
        if mode == "reset after":
            self._submit(None, (host, target.removeprefix("/v1/commands/")), body)
            call.reset()
            return
        await self._serve(call, method, host, target, body)
        if self.offline_after is not None and target.endswith(self.offline_after):
            self.mode["*"] = "offline"

    def _check(self, call: CannedCall, host: str, method: str, target: str, body: bytes) -> None:
        if self.verifier is None:
            return
        import time

        scheme, _, token = (call.head.get(b"proxy-authorization") or b"").decode().partition(" ")
        assert scheme == "Bearer"
        claims = self.verifier.verify(token, TokenKind.CALL, time.time())
        assert host.startswith(f"{claims.node}.{claims.workspace}.")
        if method == "PUT" and "/stdin?" in target:
            self._check_stdin(claims, target, body)
        elif method == "PUT":
            assert claims.binding is not None
            assert claims.binding.covers(body)
            assert claims.binding.command_id == target.removeprefix("/v1/commands/")
            assert (claims.binding.submit_until or 0) >= claims.expires_at
        if target.endswith("/cancel"):
            assert claims.binding == Binding.of_body(body, target.split("/")[3])
        self.claims.append(claims)

    def _check_stdin(self, claims: TokenClaims, target: str, body: bytes) -> None:
        path, _, query = target.partition("?")
        offset, end = (pair.split("=")[1] for pair in query.split("&"))
        assert claims.binding is not None
        assert claims.binding.command_id == path.split("/")[3]
        assert claims.binding.covers_stdin(body, int(offset), complete=end == "true")

    async def _serve(self, call: CannedCall, method: str, host: str, target: str, body: bytes) -> None:
        path, _, query = target.partition("?")
        if path == "/v1/health":
            _json(call, 200, {"status": self.status, "load": [0, 0, 0], "trust_sequence": 3, **self.health})
            return
        if path in ("/v1/secrets/notice", "/v1/init/notice"):
            call.answer(b"HTTP/1.1 204 No Content\r\n\r\n")
            return
        if path == "/v1/policy":
            _json(call, 200, self.policy)
            return
        words = path.removeprefix("/v1/commands/").split("/")
        key = (host, words[0])
        if method == "PUT" and words[1:] == ["stdin"]:
            self._take_stdin(call, words[0], query, body)
        elif method == "PUT":
            self._submit(call, key, body)
        elif key not in self.commands:
            _json(call, 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "unknown"})
        elif words[1:] == ["cancel"]:
            self.commands[key]["state"] = "CANCELLED"
            _json(call, 200, self.commands[key])
        elif words[1:] == ["output"]:
            await self._output(call, dict(pair.split("=") for pair in query.split("&")))
        elif words[1:] == ["output", "times"]:
            self._times(call, dict(pair.split("=") for pair in query.split("&")))
        else:
            await self._watched(key, dict(pair.split("=") for pair in query.split("&") if pair))
            _json(call, 200, self.commands[key])

    def _take_stdin(self, call: CannedCall, command_id: str, query: str, body: bytes) -> None:
        offset, end = (pair.split("=")[1] for pair in query.split("&"))
        content = self.stdin.setdefault(command_id, bytearray())
        fresh = body[len(content) - int(offset) :][: self.stdin_room - len(content)]
        content += fresh
        whole = len(content) == int(offset) + len(body)
        complete = end == "true" and whole
        _json(call, 200, {"received_bytes": len(content), "complete": complete, "closed": self.stdin_closed})

    def _times(self, call: CannedCall, query: dict[str, str]) -> None:
        left = [mark for mark in self.times if mark[0] >= int(query["offset"])]
        page, following = left[: int(query["limit"])], left[int(query["limit"]) :]
        document: dict[str, Any] = {"times": [{"offset": offset, "time": time} for offset, time in page]}
        _json(call, 200, document | ({"next_offset": following[0][0]} if following else {}))

    async def _watched(self, key: tuple[str, str], query: dict[str, str]) -> None:
        """Wait for a change, if asked to; what is older than that refuses the question."""
        if self.restless:
            self.commands[key]["stdout_bytes"] += 1
        if "wait_seconds" not in query:
            return
        self.watching += 1
        if self.restless:
            self.commands[key]["revision"] += 1
        async with asyncio.timeout(int(query["wait_seconds"])):
            while self.commands[key]["revision"] == int(query["seen"]):  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    def _submit(self, call: CannedCall | None, key: tuple[str, str], body: bytes) -> None:
        known = self.bodies.get(key)
        if known is not None and known != body:
            _json(call, 409, {"error_code": "RESOURCE_CONFLICT", "message": "another body"})
            return
        self.bodies[key] = body
        sizes = {f"{one}_bytes": len(self.output.get(one, b"")) + self.owed_bytes for one in ("stdout", "stderr")}
        document = self.commands.setdefault(key, {"command_id": key[1], "state": self.state, **sizes})
        if self.revisions:
            document.setdefault("revision", 1)
        if self.state == "SUCCEEDED":
            document["exit_code"] = 0
        _json(call, 200 if known is not None else 201, document)

    async def _output(self, call: CannedCall, query: dict[str, str]) -> None:
        whole = self.output.get(query["stream"], b"")
        offset = int(query["offset"])
        if offset > len(whole):
            _json(call, 416, {"error_code": "RANGE", "message": "beyond"}, f"Trunkline-Size: {len(whole)}\r\n")
            return
        head = (
            f"HTTP/1.1 200 OK\r\nTrunkline-Size: {len(whole) + self.owed_bytes}\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        call.writer.write(head.encode())
        for start in range(offset, len(whole), 65536):
            piece = whole[start : start + 65536]
            call.writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await call.writer.drain()
            if self.cut_output_after is not None and start >= self.cut_output_after:
                call.reset()
                if self.offline_after_cut:
                    self.mode["*"] = "offline"
                return
        if query.get("follow") == "true":
            await self.hold.wait()
        call.writer.write(b"0\r\n\r\n")


def _json(call: CannedCall | None, status: int, document: dict[str, Any], fields: str = "") -> None:
    if call is None:
        return
    body = json.dumps(document).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{fields}\r\n"
    call.answer(head.encode() + body)
