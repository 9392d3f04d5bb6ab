"""Every kind of token, genuine and forged, on every kind of route of a running system: refused as the table says."""

import base64
import hashlib
import hmac
import json
import time
from dataclasses import dataclass
from pathlib import Path

import jwt
import pytest

from certs.bindings import Binding
from certs.encoding import canonical_json, encode_base64url
from certs.identities import Identity
from certs.jose import write_compact
from certs.keyfiles import generate_key, load_key
from certs.keyring import token_key
from certs.signing import LocalSigningKey
from certs.spiffe import control_plane_id, node_id
from certs.tokens import TokenSigner
from tests.support.raw_calls import RawAnswer, RawConnection
from tests.support.sandboxes import Sandbox, wait_until

TRUST_DOMAIN = "trunkline.internal"
SCOPES = ("command:submit", "command:read", "health:read", "metrics:read", "shell:open", "file:read", "file:write")
AGENT_ROUTES = (
    ("GET /v1/health", "health:read"),
    ("GET /v1/metrics", "metrics:read"),
    ("GET /v1/commands", "command:read"),
    ("GET /v1/commands/none", "command:read"),
    ("GET /v1/commands/none/output", "command:read"),
    ("PUT /v1/commands/matrix", "command:submit"),
    ("POST /v1/commands/none/cancel", "command:submit"),
    ("PUT /v1/shells/matrix", "shell:open"),
    ("GET /v1/shells/none", "shell:open"),
    ("GET /v1/files/entry?path=/", "file:read"),
    ("PUT /v1/files/directory?path=/", "file:write"),
)
NODE_ROUTES = ("bootstrap/confirm", "nodes/self/renew", "nodes/self/listen-token")
RELAY_ROUTES = ("reports", "relays/self/renew")
# What the relay answers: at the gateway and on streams, and at the proxy door.
REFUSED, NOT_FOUND, FORBIDDEN = (401, 407), (404, 404), (403, 403)
EXPECTED = {
    "none": REFUSED,
    "garbage": REFUSED,
    "expired": REFUSED,
    "not yet valid": REFUSED,
    "foreign key, our kid": REFUSED,
    "foreign key, its own kid": REFUSED,
    "oversized": REFUSED,
    "alg none": REFUSED,
    "HS256 with our public key": REFUSED,
    "tampered": REFUSED,
    "list as audience": REFUSED,
    "wrong typ": REFUSED,
    "listen token": REFUSED,
    "operator token": REFUSED,
    "other node": NOT_FOUND,
    "other workspace": NOT_FOUND,
    "missing scope": FORBIDDEN,
}


@dataclass(frozen=True)
class System:
    """The sandbox, and what a forger can know of it; the control plane's own key where the signature must be good."""

    sandbox: Sandbox
    relay: str
    control_plane: str
    ca_file: str
    workspace_id: str
    key: LocalSigningKey
    kid: str
    operator_token: str

    def node(self, name: str) -> str:
        return next(str(one["id"]) for one in self.sandbox.description["nodes"] if one["name"] == name)

    def identity(self, name: str) -> Identity:
        return Identity.from_pem(self.agent_state(name)["identity"].encode(), name)

    def agent_state(self, name: str) -> dict[str, str]:
        path = self.sandbox.state / "nodes" / name / "state" / "identity.json"
        state: dict[str, str] = json.loads(path.read_text())
        return state

    def call_token(
        self,
        *scopes: str,
        node: str = "vm-1",
        workspace_id: str | None = None,
        key: LocalSigningKey | None = None,
        kid: str | None = None,
        now: float | None = None,
        binding: Binding | None = None,
    ) -> str:
        """A call token of the form that the control plane issues."""
        signer = TokenSigner(key or self.key, kid or self.kid, control_plane_id(TRUST_DOMAIN))
        target = node_id(TRUST_DOMAIN, workspace_id or self.workspace_id, self.node(node))
        asked_at = time.time() if now is None else now
        return signer.issue_call(
            target, subject="test", workspace="main", node_name=node, scopes=scopes or SCOPES, now=asked_at,
            binding=binding,
        ).text  # fmt: skip

    def connect_relay(self, identity: Identity | None = None) -> RawConnection:
        return RawConnection(self.relay, self.ca_file, identity)

    def connect_control_plane(self, identity: Identity | None = None) -> RawConnection:
        return RawConnection(self.control_plane, self.ca_file, identity)


@pytest.fixture(scope="module")
def system(sandbox: Sandbox) -> System:
    description = sandbox.description
    state = sandbox.state / "control-plane" / "state"
    key = load_key(state / "token-key.pem")
    [workspace] = [one for one in sandbox.json("workspace", "list")["workspaces"] if one["workspace"] == "main"]
    return System(
        sandbox=sandbox,
        relay=description["relay_url"],
        control_plane=description["control_plane_url"],
        ca_file=description["ca_file"],
        workspace_id=workspace["workspace_id"],
        key=LocalSigningKey(key),
        kid=token_key(key.public_key()).key_id,
        operator_token=Path(description["admin_token_file"]).read_text().strip(),
    )


@pytest.fixture(scope="module")
def tokens(system: System) -> dict[str, str | None]:
    """The tokens that must not open vm-1, by what is wrong with them."""
    good = system.call_token()
    claims = jwt.decode(good, options={"verify_signature": False})
    header = {"typ": "tl-call+jwt", "kid": system.kid}
    stranger = LocalSigningKey(generate_key())
    other = system.sandbox.json("workspace", "create", "other")
    return {
        "none": None,
        "garbage": "not-a-token",
        "expired": system.call_token(now=time.time() - 3600),
        "not yet valid": system.call_token(now=time.time() + 3600),
        "foreign key, our kid": system.call_token(key=stranger, kid=system.kid),
        "foreign key, its own kid": system.call_token(key=stranger, kid=token_key(stranger.public_key()).key_id),
        "oversized": write_compact(header, claims | {"padding": "x" * 4096}, system.key),
        "alg none": jwt.encode(claims, "", algorithm="none", headers=header),
        "HS256 with our public key": hs256(header, claims, system),
        "tampered": tampered(good),
        "list as audience": write_compact(header, claims | {"aud": [claims["aud"]]}, system.key),
        "wrong typ": write_compact(header | {"typ": "JWT"}, claims, system.key),
        "listen token": system.agent_state("vm-1")["listen_token"],
        "operator token": system.operator_token,
        "other node": system.call_token(node="vm-2"),
        "other workspace": system.call_token(workspace_id=other["workspace_id"]),
        "missing scope": system.call_token("port:4040"),
    }


def hs256(header: dict[str, str], claims: dict[str, object], system: System) -> str:
    """The token that a verifier takes which lets the token choose how a key is used."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    secret = system.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    parts = [canonical_json(part) for part in ({**header, "alg": "HS256"}, claims)]
    message = ".".join(encode_base64url(part) for part in parts)
    return f"{message}.{encode_base64url(hmac.digest(secret, message.encode(), hashlib.sha256))}"


def tampered(token: str) -> str:
    head, payload, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return f"{head}.{encode_base64url(canonical_json(claims | {'scope': 'command:submit port:22'}))}.{signature}"


def bearer(name: str, token: str | None) -> list[str]:
    return [] if token is None else [f"{name}: Bearer {token}"]


def gateway(system: System, token: str | None, route: str = "GET /v1/health", body: bytes = b"") -> RawAnswer:
    method, _, path = route.partition(" ")
    with system.connect_relay() as relay:
        line = f"{method} /v1/workspaces/main/nodes/vm-1{path}"
        return relay.request(line, f"Host: {relay.host}", *bearer("Authorization", token), body=body)


def absolute_form(system: System, token: str | None) -> RawAnswer:
    host = "vm-1.main.trunk.internal"
    with system.connect_relay() as relay:
        fields = bearer("Proxy-Authorization", token)
        return relay.request(f"GET http://{host}/v1/health", f"Host: {host}", *fields)


def connect(system: System, token: str | None) -> RawAnswer:
    host = "vm-1.main.trunk.internal:80"
    with system.connect_relay() as relay:
        return relay.request(f"CONNECT {host}", f"Host: {host}", *bearer("Proxy-Authorization", token))


def basic(system: System, token: str | None) -> RawAnswer:
    host = "vm-1.main.trunk.internal"
    fields = [] if token is None else [f"Proxy-Authorization: Basic {base64.b64encode(f'x:{token}'.encode()).decode()}"]
    with system.connect_relay() as relay:
        return relay.request(f"GET http://{host}/v1/health", f"Host: {host}", *fields)


def upgrade(relay: RawConnection, token: str | None) -> RawAnswer:
    fields = [f"Host: {relay.host}", "Connection: Upgrade", "Upgrade: yamux", *bearer("Authorization", token)]
    return relay.request("GET /v1/link", *fields)


def link_stream(system: System, token: str | None) -> RawAnswer:
    with system.connect_relay() as relay:
        assert upgrade(relay, system.call_token()).status == 101
        host = "Host: vm-1.main.trunk.internal"
        return relay.on_stream("GET /v1/health", host, *bearer("Proxy-Authorization", token))


def test_the_genuine_token_opens_every_door(system: System) -> None:
    token = system.call_token()
    answers = [door(system, token) for door in (gateway, absolute_form, connect, basic, link_stream)]
    assert [answer.status for answer in answers] == [200] * 5


@pytest.mark.parametrize("kind", EXPECTED)
def test_a_bad_token_opens_no_door(system: System, tokens: dict[str, str | None], kind: str) -> None:
    token, (plain, proxied) = tokens[kind], EXPECTED[kind]
    doors = {gateway: plain, link_stream: plain, absolute_form: proxied, connect: proxied, basic: proxied}
    for door, status in doors.items():
        answer = door(system, token)
        assert answer.status == status, (door.__name__, answer)
        assert "proxy-status: trunkline-relay; error=" in answer.head.lower(), "the relay says that it was itself"
        assert "trunkline-request-id:" in answer.head.lower()
        assert token is None or token not in answer.head + answer.body.decode()


@pytest.mark.parametrize("kind", EXPECTED)
def test_only_a_senders_token_opens_a_link(system: System, tokens: dict[str, str | None], kind: str) -> None:
    with system.connect_relay() as relay:
        expected = 401 if EXPECTED[kind] is REFUSED else 101
        assert upgrade(relay, tokens[kind]).status == expected


def test_a_listen_token_needs_its_own_certificate(system: System) -> None:
    listen_token = system.agent_state("vm-2")["listen_token"]
    relay_key = (system.sandbox.state / "relay" / "state" / "identity.pem").read_bytes()
    for identity in (system.identity("vm-1"), Identity.from_pem(relay_key, "relay")):
        with system.connect_relay(identity) as relay:
            assert upgrade(relay, listen_token).status == 401
        with system.connect_relay(identity) as relay:
            assert upgrade(relay, None).status == 401, "a certificate alone is no sender"


@pytest.mark.parametrize("scope", [*SCOPES, "port:9"])
def test_the_agents_routes_ask_each_for_their_scope(system: System, scope: str) -> None:
    token = system.call_token(scope)
    for route, needed in AGENT_ROUTES:
        body = b'{"argv":["true"]}' if route.startswith("PUT") else b""
        answer = gateway(system, token, route, body)
        if needed == scope:
            assert answer.status in (200, 201, 404, 426), (route, answer)
        else:
            assert (answer.status, answer.error_code) == (403, "PERMISSION_DENIED"), (route, answer)


def test_a_bound_token_does_one_thing(system: System) -> None:
    body = b'{"argv":["true"]}'
    submit = system.call_token("command:submit", binding=Binding.of_body(body, "bound-1"))
    again = system.call_token("command:submit", binding=Binding.of_body(body, "bound-1"))
    cancel = system.call_token("command:submit", binding=Binding.of_body(b"{}", "bound-1"))
    for token, route, content, status in (
        (submit, "PUT /v1/commands/bound-2", body, 403),
        (submit, "PUT /v1/commands/bound-1", b'{"argv":["false"]}', 403),
        (cancel, "PUT /v1/commands/bound-1", body, 403),
        (submit, "PUT /v1/commands/bound-1", body, 201),
        (again, "PUT /v1/commands/bound-1", body, 200),
        (again, "PUT /v1/commands/bound-2", body, 403),
        (submit, "POST /v1/commands/bound-1/cancel", body, 403),
        (cancel, "POST /v1/commands/bound-1/cancel", b"{}", 200),
        *((submit, route, b"", 403) for route, _ in AGENT_ROUTES if route.startswith("GET")),
    ):
        assert gateway(system, token, route, content).status == status, route


@pytest.mark.parametrize("port", [80, 443, 22, 4321])
def test_a_workspace_token_opens_no_port_that_is_not_shared(system: System, port: int) -> None:
    issued = system.sandbox.json("token", "workspace", "--port", "4321")["token"]
    with system.connect_relay() as relay:
        line = f"GET /v1/workspaces/main/nodes/vm-1:{port}/"
        answer = relay.request(line, f"Host: {relay.host}", *bearer("Authorization", issued))
    assert answer.status in (403, 501)
    assert "trunkline-relay" in answer.head.lower() or port == 4321, "the token names it: the agent refuses"


@pytest.mark.parametrize("kind", [*EXPECTED, "genuine call token"])
def test_the_control_plane_takes_no_token_but_the_operators(
    system: System, tokens: dict[str, str | None], kind: str
) -> None:
    token = system.call_token() if kind == "genuine call token" else tokens[kind]
    fields = bearer("Authorization", token)
    operator = 200 if kind == "operator token" else 401
    with system.connect_control_plane() as plane:
        host = f"Host: {plane.host}"
        for path in ("/api/2.0/accounts", "/w/main/api/2.0/nodes", "/w/other/api/2.0/nodes", "/api/2.0/revocations"):
            assert plane.request(f"GET {path}", host, *fields).status == operator, path
        for path in (*NODE_ROUTES, *RELAY_ROUTES):
            assert plane.request(f"POST /api/2.0/{path}", host, *fields).status == 401, path


def test_an_identity_serves_its_own_role_only(system: System) -> None:
    relay_key = (system.sandbox.state / "relay" / "state" / "identity.pem").read_bytes()
    roles = {system.identity("vm-1"): RELAY_ROUTES, Identity.from_pem(relay_key, "relay"): NODE_ROUTES}
    for identity, foreign in roles.items():
        with system.connect_control_plane(identity) as plane:
            host = f"Host: {plane.host}"
            for path in foreign:
                assert plane.request(f"POST /api/2.0/{path}", host).status == 403, path
            assert plane.request("GET /w/main/api/2.0/nodes", host).status == 401


def test_what_is_of_one_workspace_is_not_in_another(system: System, tokens: dict[str, str | None]) -> None:
    assert tokens["other workspace"]
    fields = bearer("Authorization", system.operator_token)
    system.sandbox.trunkline("run", "--node", "vm-1", "--", "true")
    command = system.sandbox.json("command", "list")["commands"][0]["command_id"]
    node = system.node("vm-1")
    for path in (f"nodes/{node}", "nodes/vm-1", f"nodes/{node}/health", f"nodes/{node}/health/history",
                 f"commands/{command}", f"commands/{command}/output"):  # fmt: skip
        for workspace, expected in (("main", 200), ("other", 404)):
            with system.connect_control_plane() as plane:
                line = f"GET /w/{workspace}/api/2.0/{path}"
                assert plane.request(line, f"Host: {plane.host}", *fields).status == expected, line
    with system.connect_control_plane() as plane:
        body = json.dumps({"node": node, "scopes": ["health:read"], "lifetime_seconds": 60}).encode()
        typed = [f"Host: {plane.host}", *fields, "Content-Type: application/json"]
        assert plane.request("POST /w/other/api/2.0/tokens/call", *typed, body=body).status == 404
        target = json.dumps({"target": {"node": node}, "argv": ["true"]}).encode()
        assert plane.request("POST /w/other/api/2.0/commands", *typed, body=target).status == 404
        assert plane.request(f"POST /w/other/api/2.0/commands/{command}/cancel", *typed).status == 404


def test_refusals_are_in_the_audit(system: System, tokens: dict[str, str | None]) -> None:
    for kind in EXPECTED:
        gateway(system, tokens[kind])
    with system.connect_control_plane() as plane:
        plane.request("GET /w/main/api/2.0/nodes", f"Host: {plane.host}", "Authorization: Bearer wrong")
    wait_until(lambda: refusals(system) >= AUDITED, "the refusals are audited")


AUDITED = {
    ("relay.refusal", "refused: no_token"),
    ("relay.refusal", "refused: bad_token"),
    ("relay.refusal", "refused: expired_token"),
    ("relay.refusal", "refused: wrong_audience"),
    ("relay.refusal", "refused: missing_scope"),
    ("GET /w/{workspace}/api/2.0/nodes", "refused: this is not a valid operator token"),
}


def refusals(system: System) -> set[tuple[str, str]]:
    """The kinds of refusals in the audit, without the ids of relays."""
    fields = bearer("Authorization", system.operator_token)
    with system.connect_control_plane() as plane:
        host = f"Host: {plane.host}"
        account = json.loads(plane.request("GET /api/2.0/accounts", host, *fields).body)["account_id"]
        path = f"/api/2.0/accounts/{account}/audit-events?page_size=1000"
        events = json.loads(plane.request(f"GET {path}", host, *fields).body)["events"]
    return {(event["action"].split(" rl-")[0], event["outcome"]) for event in events}
