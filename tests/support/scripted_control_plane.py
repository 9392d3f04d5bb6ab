"""A control plane as a relay sees it: scripted answers, over TLS, on a loopback port."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from certs.tls import TlsContext

Answer = Callable[[dict[str, Any]], tuple[int, dict[str, Any]]]


class ScriptedControlPlane:
    """Answers what it is told to, keeps what it was asked, and feeds events to whoever follows them."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], Answer] = {}
        self.asked: list[tuple[str, str, dict[str, Any]]] = []
        self.followers: list[asyncio.Queue[bytes | None]] = []
        self.followed = asyncio.Event()
        self.greeting: list[bytes] = []
        self.unknown: set[str] = set()
        """Numbers of documents that a follower is to hand over first."""
        self.queries: list[dict[str, str]] = []
        self.url = ""
        self.date: str | None = None
        """What its answers say that the time is, in place of the truth (RFC 9110 section 6.6.1)."""
        self._heard = asyncio.Event()

    def answer(self, method: str, path: str, answer: Answer) -> None:
        """Answer requests to this path in this way."""
        self.answers[method, path] = answer

    def feed(self, text: bytes) -> None:
        """Send bytes to every follower."""
        for queue in self.followers:
            queue.put_nowait(text)

    def hang_up(self) -> None:
        """End every follower's stream."""
        for queue in self.followers:
            queue.put_nowait(None)
        self.followers.clear()
        self.followed.clear()

    async def wait_for(self, path: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until a path was asked so often, and return the documents."""
        while True:
            documents = [document for _, asked, document in self.asked if asked == path]
            if len(documents) >= count:
                return documents
            self._heard.clear()
            await self._heard.wait()

    @asynccontextmanager
    async def serve(self, context: TlsContext) -> AsyncIterator["ScriptedControlPlane"]:
        """Listen while the block runs."""
        app = web.Application(client_max_size=16 * 1024 * 1024)
        app.router.add_get("/api/2.0/trust-document/events", self._follow)
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        port = runner.addresses[0][1]
        self.url = f"https://localhost:{port}"
        try:
            yield self
        finally:
            self.hang_up()
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        document = await request.json() if request.can_read_body else {}
        self.asked.append((request.method, request.path, document))
        self._heard.set()
        answer = self.answers.get((request.method, request.path))
        if answer is None:
            return web.json_response({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such path"}, status=404)
        status, body = answer(document)
        return web.json_response(body, status=status, headers=self._dated())

    async def _follow(self, request: web.Request) -> web.StreamResponse:
        self.queries.append(dict(request.query))
        if request.query.get("sequence") in self.unknown:
            return web.json_response({"error_code": "RESOURCE_CONFLICT", "message": "hand it over"}, status=409)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", **self._dated()})
        await response.prepare(request)
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.followers.append(queue)
        for text in self.greeting:
            await response.write(text)
        self.followed.set()
        while (event := await queue.get()) is not None:
            await response.write(event)
        return response

    def _dated(self) -> dict[str, str]:
        return {} if self.date is None else {"Date": self.date}
