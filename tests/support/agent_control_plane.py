"""A control plane as an agent sees it: real certificates and tokens, over TLS, with faults on demand."""

import asyncio
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from certs.chains import CertificateChain
from certs.fingerprints import serial_hex
from certs.identities import Identity
from certs.late_renewal import csr_digest, read_late_renewal
from certs.peers import peer_certificate
from certs.sealing import read_sealing_key
from certs.secret_bundles import BundledSecret, seal_bundle
from certs.trust import Revocations, TrustDocument, sign_trust_document
from tests.support.identities import NODE, NODE_ID, WORKSPACE, WORKSPACE_ID, IdentityKit

JOIN_TOKEN = "tljt-0123456789abcdef0123"
Fault = Callable[[dict[str, Any]], web.Response | None]


def error(status: int, error_code: str) -> web.Response:
    return web.json_response({"error_code": error_code, "message": f"refused with {error_code}"}, status=status)


class AgentControlPlane:
    """Admits one node. `faults` by path may answer instead of it, `lost` counts answers that are to be lost.

    `asked` has every request's path and document. `renew_time` (milliseconds) is what it promises, if it promises.
    """

    def __init__(self, kit: IdentityKit) -> None:
        self.kit = kit
        self.node_id = NODE_ID
        self.relays: list[str] = []
        self.bundle: tuple[int, list[BundledSecret]] | None = None
        self.always = False
        self.canned_bundle: dict[str, Any] | None = None
        self.plan: dict[str, Any] = {"run": 1, "scripts": []}
        self.sequence = 1
        self.revocations = Revocations()
        self.token_keys = (kit.token_key,)
        self.node_lifetime_seconds = 86400.0
        self.renew_time: object = None
        self.faults: dict[str, list[Fault]] = defaultdict(list)
        self.lost: Counter[str] = Counter()
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.nonces: set[str] = set()
        self.answers: dict[tuple[str, str], dict[str, Any]] = {}
        self.confirmed: list[str] = []
        self.pairs: dict[str, dict[str, Any]] = {}
        self.keys: dict[str, Any] = {}
        self.sealing_keys: dict[str, str] = {}
        self.sealing_key = ""
        self.url = ""
        self.now = lambda: kit.now
        self.reachable = True
        self.date: str | None = None
        """What its answers say that the time is, in place of the truth (RFC 9110 section 6.6.1)."""
        self._heard = asyncio.Event()

    def count(self, path: str) -> int:
        return sum(asked == path for asked, _ in self.asked)

    async def asked_for(self, path: str, count: int = 1) -> None:
        async with asyncio.timeout(30):
            while self.count(path) < count:
                self._heard.clear()
                await self._heard.wait()

    def trust_document(self) -> str:
        document = TrustDocument(
            trust_domain=self.kit.trust_domain,
            sequence=self.sequence,
            issued_at=int(self.kit.now),
            roots=tuple(self.kit.roots),
            token_keys=self.token_keys,
            revocations=self.revocations,
            name_suffix="trunk.internal",
        )
        return sign_trust_document(document, self.kit.control_plane)

    @asynccontextmanager
    async def serve(
        self, *, presented_roots: bool = False, identity: Identity | None = None
    ) -> AsyncIterator["AgentControlPlane"]:
        app = web.Application()
        for path, handler in (
            ("/api/2.0/bootstrap/challenge", self._challenge),
            ("/api/2.0/bootstrap", self._bootstrap),
            ("/api/2.0/bootstrap/confirm", self._confirm),
            ("/api/2.0/nodes/self/secrets", self._secrets),
            ("/api/2.0/nodes/self/secrets/report", self._report),
            ("/api/2.0/nodes/self/init", self._init),
            ("/api/2.0/nodes/self/init/report", self._taken),
            ("/api/2.0/nodes/self/renew", self._renew),
            ("/api/2.0/nodes/self/listen-token", self._listen_token),
            ("/api/2.0/nodes/late-renewal", self._renew_late),
            ("/api/2.0/nodes/self/reports", self._taken),
            ("/api/2.0/nodes/self/held-trust-document", self._taken),
        ):
            app.router.add_post(path, self._faulty(path, handler))
        app.router.add_get("/api/2.0/trust-document", self._faulty("/api/2.0/trust-document", self._trust))
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        tls = self.kit.server_tls(identity)
        if presented_roots:
            tls.swap(self.kit.control_plane, self.kit.roots, presented_roots=self.kit.roots)
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls.context)
        await site.start()
        self.url = f"https://localhost:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    def _faulty(self, path: str, handler: Any) -> Any:
        async def answer(request: web.Request) -> web.StreamResponse:
            document = json.loads(await request.read() or b"{}")
            self.asked.append((path, document))
            self._heard.set()
            if not self.reachable:
                assert request.transport is not None
                request.transport.close()
            if self.faults[path]:
                fault = self.faults[path].pop(0)(document)
                if fault is not None:
                    return fault
            response: web.StreamResponse = await handler(request, document)
            response.headers["Trunkline-Trust-Sequence"] = str(self.sequence)
            if self.date is not None:
                response.headers["Date"] = self.date
            if self.lost[path]:
                self.lost[path] -= 1
                assert request.transport is not None
                request.transport.close()
            return response

        return answer

    async def _init(self, request: web.Request, document: dict[str, Any]) -> web.Response:
        if self._peer(request) is None:
            return error(401, "UNAUTHENTICATED")
        return web.json_response(self.plan)

    async def _challenge(self, request: web.Request, document: dict[str, Any]) -> web.Response:
        nonce = f"nonce-{len(self.asked)}"
        self.nonces.add(nonce)
        return web.json_response({"nonce": nonce, "expire_time": 0})

    async def _bootstrap(self, request: web.Request, document: dict[str, Any]) -> web.Response:
        evidence = document["evidence"]
        credential = evidence["token"] if evidence["type"] == "join_token" else document["nonce"]
        key = credential, hashlib.sha256(document["csr"].encode()).hexdigest()
        if key not in self.answers:
            if document["nonce"] not in self.nonces:
                return error(401, "UNAUTHENTICATED")
            self.nonces.discard(document["nonce"])
            if evidence["type"] == "join_token" and evidence["token"] != JOIN_TOKEN:
                return error(401, "UNAUTHENTICATED")
            if any(used == credential for used, _ in self.answers):
                return error(409, "RESOURCE_CONFLICT")
            self.answers[key] = self._identity(document["csr"])
            self.sealing_key = document["sealing_key"]
        return web.json_response(self.answers[key])

    async def _confirm(self, request: web.Request, document: dict[str, Any]) -> web.Response:
        peer = self._peer(request)
        if peer is None:
            return error(401, "UNAUTHENTICATED")
        self.confirmed.append(peer.serial)
        self.sealing_key = self.sealing_keys.get(peer.serial, self.sealing_key)
        return web.json_response({})

    async def _secrets(self, request: web.Request, document: dict[str, Any]) -> web.Response:
        """Hand out `bundle` unless it is held; `always` even then, and `canned_bundle` in any case."""
        peer = self._peer(request)
        if peer is None:
            return error(401, "UNAUTHENTICATED")
        if self.canned_bundle is not None:
            return web.json_response(self.canned_bundle)
        if self.bundle is None:
            return web.json_response({"sequence": 0})
        sequence, secrets = self.bundle
        if document.get("held_sequence") == sequence and not self.always:
            return web.json_response({"sequence": sequence})
        sealed = seal_bundle(secrets, read_sealing_key(document["sealing_key"]), peer.spiffe_id, sequence)
        return web.json_response({"sequence": sequence, "sealed": sealed})

    async def _report(self, request: web.Request, document: dict[str, Any]) -> web.Response:
        return web.json_response({}) if self._peer(request) is not None else error(401, "UNAUTHENTICATED")

    async def _renew(self, request: web.Request, document: dict[str, Any]) -> web.Response:
        if self._peer(request) is None:
            return error(401, "UNAUTHENTICATED")
        return self._pair(document["csr"], document["sealing_key"])

    async def _renew_late(self, request: web.Request, document: dict[str, Any]) -> web.Response:
        asked = read_late_renewal(document["request"], trust_domain=self.kit.trust_domain)
        asked.verify(self.keys[asked.serial])
        if asked.nonce not in self.nonces or asked.csr_sha256 != csr_digest(document["csr"]):
            return error(401, "UNAUTHENTICATED")
        self.nonces.discard(asked.nonce)
        return self._pair(document["csr"], asked.sealing_key)

    async def _trust(self, request: web.Request, document: dict[str, Any]) -> web.Response:
        return web.json_response({"trust_document": self.trust_document()})

    def _pair(self, csr: str, sealing_key: str) -> web.Response:
        if csr not in self.pairs:
            self.pairs[csr] = self._identity(csr)
            self.sealing_keys[self.pairs[csr]["serial"]] = sealing_key
        names = ("certificate_chain", "listen_token", "relays", "trust_document", "renew_time")
        return web.json_response({name: self.pairs[csr][name] for name in names})

    async def _listen_token(self, request: web.Request, document: dict[str, Any]) -> web.Response:
        peer = self._peer(request)
        if peer is None:
            return error(401, "UNAUTHENTICATED")
        token = self._token(peer.thumbprint)
        return web.json_response(
            {"listen_token": token, "relays": self._relays(), "trust_document": self.trust_document()}
        )

    async def _taken(self, request: web.Request, document: dict[str, Any]) -> web.Response:
        return web.json_response({}) if self._peer(request) is not None else error(401, "UNAUTHENTICATED")

    def _peer(self, request: web.Request) -> Any:
        return peer_certificate(request.transport)

    def _identity(self, csr: str) -> dict[str, Any]:
        spiffe_id = self.kit.node_spiffe_id(node=self.node_id)
        chain: CertificateChain = self.kit.authority.issue_node(
            csr, spiffe_id, self.node_lifetime_seconds, now=self.now()
        )
        self.keys[chain.serial] = chain.leaf.public_key()
        return {
            "node_id": self.node_id,
            "node": NODE,
            "workspace_id": WORKSPACE_ID,
            "workspace": WORKSPACE,
            "certificate_chain": chain.pem,
            "trust_document": self.trust_document(),
            "relays": self._relays(),
            "listen_token": self._token(chain.thumbprint),
            "name_suffix": "trunk.internal",
            "policy": {},
            "serial": serial_hex(chain.leaf),
            "renew_time": self.renew_time,
        }

    def _token(self, thumbprint: str) -> str:
        issued = self.kit.signer.issue_listen(
            self.kit.node_spiffe_id(node=self.node_id),
            workspace=WORKSPACE,
            node_name=NODE,
            certificate_thumbprint=thumbprint,
            now=self.now(),
        )
        return issued.text

    def _relays(self) -> list[dict[str, str]]:
        return [{"relay_id": f"rl-{number}", "url": url} for number, url in enumerate(self.relays)]
