"""A front for a control plane's API, over TLS, that loses requests and replies: each POST meets one fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import Enum

from aiohttp import web

from tests.support.control_planes import RunningControlPlane
from tests.support.identities import IdentityKit


class Loss(Enum):
    """What is lost of a request or of its reply."""

    REQUEST = "the request never arrives"
    REPLY = "the reply is lost"
    HALF = "half of the reply is lost"


class LossyFront:
    """Passes requests on to the control plane that is set, and loses something of each new POST's first attempt."""

    def __init__(self, loss_of: Callable[[bytes], Loss]) -> None:
        self.plane: RunningControlPlane | None = None
        self.url = ""
        self.losses: Counter[Loss] = Counter()
        self._loss_of = loss_of
        self._seen: set[bytes] = set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        loss = None
        if request.method == "POST" and (key := request.path.encode() + body) not in self._seen:
            self._seen.add(key)
            loss = self._loss_of(key)
            self.losses[loss] += 1
        assert request.transport is not None
        if loss is Loss.REQUEST or self.plane is None:
            request.transport.abort()
            return web.Response()
        headers = {name: request.headers[name] for name in ("Authorization", "Content-Type") if name in request.headers}
        url = self.plane.url + request.path_qs
        async with self.plane.session().request(request.method, url, data=body, headers=headers) as answer:
            content = await answer.read()
            if loss is Loss.REPLY:
                request.transport.abort()
                return web.Response()
            response = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
            response.content_length = len(content)
            await response.prepare(request)
            await response.write(content[: len(content) // 2] if loss is Loss.HALF else content)
            if loss is Loss.HALF:
                request.transport.abort()
            return response


@asynccontextmanager
async def lossy_front(kit: IdentityKit, loss_of: Callable[[bytes], Loss]) -> AsyncIterator[LossyFront]:
    """A front that listens under the authority of `kit`; its `plane` may be set and replaced."""
    front = LossyFront(loss_of)
    app = web.Application(client_max_size=2**23)
    app.router.add_route("*", "/{path:.*}", front.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    tls = kit.server_tls(kit.issue_control_plane("localhost"))
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls.context).start()
    front.url = f"https://localhost:{runner.addresses[0][1]}"
    try:
        yield front
    finally:
        await runner.cleanup()
