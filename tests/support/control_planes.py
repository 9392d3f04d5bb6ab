"""A whole control plane in this process: real database, real TLS on loopback, and no relay but one in memory."""

from __future__ import annotations

import asyncio
import io
import json
import random
import secrets
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client import CollectorRegistry

from certs.authority import Authority
from certs.chains import CertificateChain
from certs.encoding import encode_base64url
from certs.identities import Identity, SpiffeId, build_csr, node_id, relay_id
from certs.keyfiles import generate_key
from certs.keyring import KeyRing, read_token_key
from certs.tls import TlsContext, client_context
from certs.tokens import TokenVerifier
from control_plane.attestation.providers import evidence_providers
from control_plane.composition import ControlPlane, compose
from control_plane.foundation import Foundation
from control_plane.initialise import initialise
from control_plane.settings import ControlPlaneSettings
from control_plane.signing.in_force import SignersInForce
from control_plane.signing.key_stores import key_stores
from control_plane.storage import accounts, signers
from control_plane.storage.database import Database
from trunkline.client.node_sender import NodeSender
from trunkline.runtime.clock import Clock, SystemClock

TRUST_DOMAIN = "trunkline.test"
OPERATOR = "operator"
SEALING_KEY = encode_base64url(b"s" * 32)


@dataclass(frozen=True)
class Answer:
    """What the API said."""

    status: int
    document: dict[str, Any]
    headers: dict[str, str]

    @property
    def error_code(self) -> str:
        return str(self.document.get("error_code", ""))


@dataclass
class RunningControlPlane:
    """A control plane that runs, and clients of every kind for it."""

    settings: ControlPlaneSettings
    control_plane: ControlPlane
    foundation: Foundation
    authority: Authority
    operator_token: str
    sessions: dict[str, aiohttp.ClientSession] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"https://localhost:{self.control_plane.listener.port}"

    @property
    def database(self) -> Database:
        return self.foundation.database

    @property
    def account(self) -> str:
        return f"/api/2.0/accounts/{self.foundation.account_id}"

    def client_tls(self, identity: Identity | None = None) -> TlsContext:
        return client_context(self.authority.roots, identity=identity)

    def session(self, identity: Identity | None = None) -> aiohttp.ClientSession:
        key = identity.chain.thumbprint if identity is not None else ""
        if key not in self.sessions:
            connector = aiohttp.TCPConnector(ssl=self.client_tls(identity))
            self.sessions[key] = aiohttp.ClientSession(connector=connector)
        return self.sessions[key]

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = OPERATOR,
        identity: Identity | None = None,
        raw: bytes | None = None,
    ) -> Answer:
        """Make a request, as the operator unless told otherwise."""
        headers = {"Content-Type": "application/json"}
        if token is not None and identity is None:
            headers["Authorization"] = f"Bearer {self.operator_token if token == OPERATOR else token}"
        content = raw if raw is not None else (json.dumps(body).encode() if body is not None else b"")
        request = self.session(identity).request(method, self.url + path, data=io.BytesIO(content), headers=headers)
        async with request as response:
            text = await response.text()
            document = json.loads(text) if response.content_type == "application/json" else {"text": text}
            return Answer(response.status, document, dict(response.headers))

    async def ok(self, method: str, path: str, body: Any = None, **options: Any) -> dict[str, Any]:
        """The same, which must succeed."""
        answer = await self.call(method, path, body, **options)
        assert 200 <= answer.status < 300, answer
        return answer.document

    async def workspace(self, name: str = "finance") -> dict[str, Any]:
        return await self.ok("POST", f"{self.account}/workspaces", {"workspace": name})

    async def join_token(self, workspace: str = "finance", **fields: Any) -> str:
        body = {"lifetime_seconds": 600, **fields}
        return str((await self.ok("POST", f"/w/{workspace}/api/2.0/join-tokens", body))["join_token"])

    async def nonce(self) -> str:
        return str((await self.ok("POST", "/api/2.0/bootstrap/challenge", {}, token=None))["nonce"])

    async def bootstrap_body(self, join_token: str, **fields: Any) -> tuple[dict[str, Any], Any]:
        key = generate_key()
        body = {
            "evidence": {"type": "join_token", "token": join_token},
            "nonce": await self.nonce(),
            "csr": build_csr(key),
            "sealing_key": SEALING_KEY,
            "agent_version": "1.0",
            **fields,
        }
        return body, key

    async def node(self, name: str = "vm-1", workspace: str = "finance", **token: Any) -> EnrolledNode:
        """Bootstrap a node and confirm it."""
        await self.workspace(workspace)
        body, key = await self.bootstrap_body(await self.join_token(workspace, **token), node_name=name)
        answer = await self.ok("POST", "/api/2.0/bootstrap", body, token=None)
        identity = Identity(key, CertificateChain.from_pem(answer["certificate_chain"]))
        await self.ok("POST", "/api/2.0/bootstrap/confirm", {}, identity=identity)
        return EnrolledNode(answer, identity)

    async def relay(self, name: str = "relay-1", port: int | None = 443) -> EnrolledRelay:
        """Enrol a relay, and let it say where it listens."""
        asked = {"name": name, "dns_names": [f"{name}.test"], "lifetime_seconds": 600}
        token = (await self.ok("POST", f"{self.account}/relay-join-tokens", asked))["join_token"]
        key = generate_key()
        body = {"join_token": token, "csr": build_csr(key), "name": name}
        answer = await self.ok("POST", "/api/2.0/relays/enrol", body, token=None)
        identity = Identity(key, CertificateChain.from_pem(answer["certificate_chain"]))
        if port is not None:
            await self.ok("PUT", "/api/2.0/relays/self", {"port": port}, identity=identity)
        return EnrolledRelay(answer, identity)

    async def audit(self, **filters: str) -> list[dict[str, Any]]:
        await self.control_plane.ledger.flush()
        query = "&".join(f"{key}={value}" for key, value in filters.items())
        events = await self.ok("GET", f"{self.account}/audit-events?page_size=1000&{query}")
        return list(events["events"])

    async def verifier(self) -> TokenVerifier:
        async with self.database.read() as session:
            rows = await signers.trusted(session, "signing-key")
        keys = [read_token_key(row.form) for row in rows]
        return TokenVerifier(KeyRing(keys, self.authority.roots), TRUST_DOMAIN)

    def forged_node(self, workspace_id: str, name: str = "nd-" + "a" * 20) -> Identity:
        """A genuine SVID of a node that is not on record."""
        return self.issue(node_id(TRUST_DOMAIN, workspace_id, name))

    def issue(self, spiffe_id: SpiffeId, now: float | None = None) -> Identity:
        key = generate_key()
        now = self.foundation.clock.now() if now is None else now
        if spiffe_id.node_id is not None:
            return Identity(key, self.authority.issue_node(build_csr(key), spiffe_id, 3600, now=now))
        return Identity(key, self.authority.issue_relay(build_csr(key), spiffe_id, ["localhost"], 3600, now=now))

    def forged_relay(self, name: str = "rl-" + "a" * 20) -> Identity:
        return self.issue(relay_id(TRUST_DOMAIN, name))


@dataclass(frozen=True)
class EnrolledNode:
    """A node with its identity."""

    answer: dict[str, Any]
    identity: Identity

    @property
    def node_id(self) -> str:
        return str(self.answer["node_id"])

    @property
    def workspace_id(self) -> str:
        return str(self.answer["workspace_id"])


@dataclass(frozen=True)
class EnrolledRelay:
    """A relay with its identity."""

    answer: dict[str, Any]
    identity: Identity

    @property
    def relay_id(self) -> str:
        return str(self.answer["relay_id"])


def settings_for(directory: Path, **sections: Any) -> ControlPlaneSettings:
    """Settings for a control plane on ports that the system picks."""
    defaults: dict[str, Any] = {
        "state_directory": directory / "state",
        "listen": {"address": "127.0.0.1", "port": 0},
        "admin": {"port": 0},
        "identity": {"trust_domain": TRUST_DOMAIN, "dns_names": ["localhost"]},
    }
    return ControlPlaneSettings(**{**defaults, **sections})


@asynccontextmanager
async def running_control_plane(
    directory: Path,
    *,
    clock: Clock | None = None,
    dial: Callable[..., Any] | None = None,
    fleet: bool = False,
    settings: ControlPlaneSettings | None = None,
    link_timeout_seconds: float = 20.0,
) -> AsyncIterator[RunningControlPlane]:
    """Prepare and run a control plane; with `fleet` its dispatcher and health monitor run too.

    `dial` takes the place of dialling a relay, see `NodeSender`; without it there is none to wait for.
    """
    settings = settings or settings_for(directory)
    await _prepare(directory, settings)
    async with AsyncExitStack() as stack:
        database = Database(settings.database_url, query_timeout_seconds=settings.database.query_timeout_seconds)
        stack.push_async_callback(database.close)
        async with database.read() as session:
            account = await accounts.the_account(session)
            operators = await accounts.operators(session)
        draining = asyncio.Event()
        stores = key_stores(settings)
        in_force = SignersInForce(database=database, settings=settings, stores=stores, clock=clock or SystemClock())
        await in_force.load()
        foundation = Foundation(
            settings=settings,
            database=database,
            signers=in_force,
            stores=stores,
            account_id=account.account_id,
            page_key=account.page_key,
            operators=operators,
            providers=await evidence_providers(settings.bootstrap, stack, clock or SystemClock()),
            registry=CollectorRegistry(),
            clock=clock or SystemClock(),
            rng=random.Random(secrets.randbits(32)),
            draining=draining,
            make_sender=lambda url: NodeSender(
                url,
                ssl_context=lambda: client_context(in_force.authority.roots),
                dial=dial or _nobody,
                link_timeout_seconds=link_timeout_seconds if dial else 0.5,
            ),
        )
        control_plane = compose(foundation)
        stack.push_async_callback(control_plane.fleet.reach.close)
        await control_plane.identities.trust.refresh()
        running = RunningControlPlane(
            settings,
            control_plane,
            foundation,
            in_force.authority,
            settings.operator_token_file.read_text().strip(),
        )
        await stack.enter_async_context(control_plane.listener)
        stack.push_async_callback(_close, running)
        stack.callback(draining.set)
        async with _tasks(control_plane, fleet=fleet):
            yield running


async def _prepare(directory: Path, settings: ControlPlaneSettings) -> None:
    """Initialise a control plane, as a copy of the first that was made beside it: `init` has tests of its own."""
    template = directory.parent / "initialised-control-plane"
    if not template.exists():
        unfinished = template.with_name(f"{template.name}-unfinished")
        await initialise(settings_for(unfinished))
        unfinished.rename(template)
    if not settings.state_directory.exists():
        shutil.copytree(template / "state", settings.state_directory)


async def lay_down(
    directory: Path, settings: ControlPlaneSettings, name: str, enrol: Callable[[RunningControlPlane], Awaitable[None]]
) -> None:
    """Lay down the state of a control plane on which `enrol` was done, as a copy of the first of that name beside it.

    For tests of what comes after an enrolment; what is there already stays as it is.
    """
    template = directory.parent / name
    if not template.exists():
        unfinished = template.with_name(f"{template.name}-unfinished")
        async with running_control_plane(unfinished) as plane:
            await enrol(plane)
        unfinished.rename(template)
    if not settings.state_directory.exists():
        shutil.copytree(template / "state", settings.state_directory)


async def _close(running: RunningControlPlane) -> None:
    for session in running.sessions.values():
        await session.close()


@asynccontextmanager
async def _tasks(control_plane: ControlPlane, *, fleet: bool) -> AsyncIterator[None]:
    work = [control_plane.listener.sweep()]
    if fleet:
        work += [control_plane.fleet.commands.dispatcher.run(), control_plane.fleet.monitor.run()]
        work += [control_plane.fleet.secret_notices.run(), control_plane.fleet.commands.conductor.run()]
        work.append(control_plane.fleet.commands.keeper.run())
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended


async def _nobody(*_: Any) -> Any:
    from trunkline.channel.errors import ConnectionLost

    raise ConnectionLost("no relay in this test")
