import asyncio
import contextlib
import ssl
import struct
import subprocess
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, cast

import pytest

from certs import tls, tls_policy
from certs.errors import CertificateError
from certs.openssl import reach
from certs.peers import PeerCertificate, peer_certificate
from certs.tls import GROUPS, ServerTls, TlsContext, client_context
from tests.support.identities import IdentityKit
from trunkline.runtime.loop import EventLoopName, loop_factory

LOOPS: list[EventLoopName] = ["asyncio", "uvloop", "auto"]


Run = Callable[[Coroutine[Any, Any, Any]], Any]
Probe = Callable[..., list[subprocess.CompletedProcess[str]]]


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> IdentityKit:
    return IdentityKit(tmp_path_factory.mktemp("kit"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> IdentityKit:
    return IdentityKit(tmp_path_factory.mktemp("stranger"))


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    def run_on(main: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=loop_factory(request.param)) as runner:
            return runner.run(main)

    return run_on


@pytest.fixture(params=["in place", "by callback"])
def any_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once as it is here, once as on an interpreter whose OpenSSL cannot be reached."""
    if request.param == "by callback":
        for module in (tls, tls_policy):
            monkeypatch.setattr(module, "reach", lambda _: None)


class _Greeter(asyncio.Protocol):
    """Says who the peer is, and hangs up."""

    def __init__(self, seen: list[PeerCertificate | None]) -> None:
        self.seen = seen

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.seen.append(peer_certificate(self.transport))
        self.transport.write(b"hello")
        self.transport.close()


@contextlib.asynccontextmanager
async def serving(server_tls: ServerTls, seen: list[PeerCertificate | None] | None = None) -> AsyncIterator[int]:
    sightings = [] if seen is None else seen
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)
    server = await loop.create_server(lambda: _Greeter(sightings), "127.0.0.1", 0, ssl=server_tls.context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


async def greet(port: int, context: TlsContext, name: str | None = "localhost") -> tuple[bytes, PeerCertificate | None]:
    """One connection: what the server said, and who it was."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
    try:
        writer.write(b"who is there?")
        return await reader.read(), peer_certificate(writer.transport)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def refused(port: int, context: TlsContext) -> bool:
    try:
        return (await greet(port, context))[0] == b""
    except OSError:
        return True


def test_both_ends_learn_who_the_other_is(kit: IdentityKit, run: Run, any_way: None) -> None:
    node, relay = kit.issue_node(), kit.issue_relay()
    seen: list[PeerCertificate | None] = []

    async def main() -> None:
        async with serving(ServerTls(relay, kit.roots, "required"), seen) as port:
            said, peer = await greet(port, kit.client_tls(node))
            assert said == b"hello"
            assert peer == PeerCertificate(relay.spiffe_id, relay.serial, relay.thumbprint, relay.not_after)

    run(main())
    assert seen == [PeerCertificate(node.spiffe_id, node.serial, node.thumbprint, node.not_after)]


def test_an_optional_certificate_may_be_absent_but_not_foreign(
    kit: IdentityKit, stranger: IdentityKit, run: Run, any_way: None
) -> None:
    seen: list[PeerCertificate | None] = []

    async def main() -> None:
        async with serving(ServerTls(kit.issue_relay(), kit.roots, "optional"), seen) as port:
            assert (await greet(port, kit.client_tls()))[0] == b"hello"
            assert await refused(port, kit.client_tls(stranger.issue_node()))

    run(main())
    assert seen == [None]


def test_a_required_certificate_may_not_be_absent(kit: IdentityKit, run: Run, any_way: None) -> None:
    async def main() -> None:
        async with serving(ServerTls(kit.issue_relay(), kit.roots, "required")) as port:
            assert await refused(port, kit.client_tls())

    run(main())


def test_an_expired_certificate_is_refused(kit: IdentityKit, tmp_path: Path, run: Run, any_way: None) -> None:
    long_ago = IdentityKit(tmp_path, now=kit.now - 40 * 86400)

    async def main() -> None:
        async with serving(ServerTls(kit.issue_relay(), long_ago.roots, "required")) as port:
            assert await refused(port, kit.client_tls(long_ago.issue_node()))

    run(main())


def test_a_server_is_verified_by_chain_and_name(kit: IdentityKit, stranger: IdentityKit, run: Run) -> None:
    async def main() -> None:
        async with serving(ServerTls(kit.issue_relay("rl-x", "relay.example"))) as port:
            assert await refused(port, kit.client_tls())
            assert await refused(port, stranger.client_tls())
            assert await refused(port, client_context())
            assert (await greet(port, kit.client_tls(), "relay.example"))[0] == b"hello"
        async with serving(ServerTls(kit.issue_node())) as port:
            assert await refused(port, kit.client_tls()), "a node's SVID names no host"

    run(main())


def test_swap_replaces_certificate_and_client_roots_both(
    kit: IdentityKit, stranger: IdentityKit, run: Run, any_way: None
) -> None:
    server_tls = ServerTls(kit.issue_relay(), kit.roots, "required")

    async def main() -> None:
        async with serving(server_tls) as port:
            assert (await greet(port, kit.client_tls(kit.issue_node())))[0] == b"hello"
            successor = stranger.issue_relay()
            server_tls.swap(successor, stranger.roots)
            said, peer = await greet(port, stranger.client_tls(stranger.issue_node()))
            assert said == b"hello"
            assert peer is not None
            assert peer.serial == successor.serial
            assert await refused(port, client_context(stranger.roots, identity=kit.issue_node()))
            server_tls.swap(successor, [*stranger.roots, *kit.roots])
            assert (await greet(port, client_context(stranger.roots, identity=kit.issue_node())))[0] == b"hello"

    run(main())


def test_a_connection_that_stands_survives_a_swap(
    kit: IdentityKit, stranger: IdentityKit, run: Run, any_way: None
) -> None:
    server_tls = ServerTls(kit.issue_relay(), kit.roots, "required")

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            writer.write(await reader.readexactly(4))
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_tls.context)
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=kit.client_tls(kit.issue_node()), server_hostname="localhost"
        )
        writer.write(b"ping")
        assert await reader.readexactly(4) == b"ping"
        server_tls.swap(stranger.issue_relay(), stranger.roots)
        writer.write(b"pong")
        assert await reader.read() == b"pong"
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()

    run(main())


def test_a_bad_swap_changes_nothing(kit: IdentityKit, run: Run, any_way: None) -> None:
    relay = kit.issue_relay()
    server_tls = ServerTls(relay, kit.roots, "required")

    async def main() -> None:
        async with serving(server_tls) as port:
            with pytest.raises(CertificateError, match="no roots"):
                server_tls.swap(kit.issue_relay("rl-two"), [])
            _, peer = await greet(port, kit.client_tls(kit.issue_node()))
            assert peer is not None
            assert peer.serial == relay.serial

    run(main())


def test_many_swaps_leave_no_memory_behind(kit: IdentityKit) -> None:
    server_tls = ServerTls(kit.control_plane, kit.roots, "optional")
    for _ in range(50):
        server_tls.swap(kit.control_plane, kit.roots)
    assert len(server_tls.context.get_ca_certs()) == 1


def test_asking_for_certificates_without_roots_is_an_error(kit: IdentityKit) -> None:
    with pytest.raises(CertificateError, match="no roots"):
        ServerTls(kit.control_plane, (), "optional")


def test_client_context_refuses_what_it_cannot_verify_with(kit: IdentityKit, tmp_path: Path) -> None:
    (tmp_path / "garbage").write_text("no certificate")
    with pytest.raises(CertificateError, match="no PEM certificates"):
        client_context(ca_file=tmp_path / "garbage")
    with pytest.raises(CertificateError, match="No such file"):
        client_context(ca_file=tmp_path / "missing")
    with pytest.raises(CertificateError, match="no roots"):
        client_context([])
    with pytest.raises(CertificateError, match="not both"):
        client_context(kit.roots, ca_file=kit.ca_file)


def test_client_contexts_always_verify(kit: IdentityKit) -> None:
    for context in (client_context(), client_context(kit.roots), client_context(ca_file=kit.ca_file)):
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname


def s_client(port: int, *options: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", "localhost", *options]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=20, check=False)


@pytest.fixture
def probe(kit: IdentityKit, run: Run) -> Callable[..., list[subprocess.CompletedProcess[str]]]:
    """Runs openssl s_client with each list of options against a server of ours."""

    def run_all(*attempts: list[str], stdin: str = "") -> list[subprocess.CompletedProcess[str]]:
        async def main() -> list[subprocess.CompletedProcess[str]]:
            async with serving(ServerTls(kit.issue_relay())) as port:
                trust = ["-CAfile", str(kit.ca_file), "-verify_return_error"]
                return [await asyncio.to_thread(s_client, port, *trust, *a, stdin=stdin) for a in attempts]

        result: list[subprocess.CompletedProcess[str]] = run(main())
        return result

    return run_all


def test_openssl_sees_only_new_protocol_versions(probe: Probe) -> None:
    old, older, good, best = probe(
        ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], ["-tls1", "-cipher", "ALL:@SECLEVEL=0"], ["-tls1_2"], ["-tls1_3"]
    )
    assert old.returncode != 0
    assert older.returncode != 0
    assert "Verify return code: 0 (ok)" in good.stdout
    assert "Verify return code: 0 (ok)" in best.stdout
    assert "Protocol  : TLSv1.2" in good.stdout
    assert "New, TLSv1.3" in best.stdout


@pytest.mark.parametrize(
    "ciphers",
    ["ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA", "kRSA", "aNULL:eNULL", "DHE", "CAMELLIA", "AES128-CCM"],
)
def test_weak_ciphers_find_no_agreement(kit: IdentityKit, ciphers: str) -> None:
    async def main() -> subprocess.CompletedProcess[str]:
        async with serving(ServerTls(kit.issue_relay())) as port:
            return await asyncio.to_thread(s_client, port, "-tls1_2", "-cipher", f"{ciphers}:@SECLEVEL=0")

    with asyncio.Runner() as runner:
        result = runner.run(main())
    assert "Cipher is (NONE)" in result.stdout or "Error with command" in result.stderr


def test_groups_are_ours_in_our_order(probe: Probe) -> None:
    p256, p384, x448, p521 = probe(
        ["-groups", "P-256"], ["-groups", "P-384"], ["-groups", "X448"], ["-groups", "P-521"]
    )
    assert p256.returncode == 0
    assert p384.returncode == 0
    assert "Cipher is (NONE)" in x448.stdout
    assert "Cipher is (NONE)" in p521.stdout


X25519 = 0x001D
X25519_MLKEM768 = 0x11EC
HAS_HYBRID = ssl.OPENSSL_VERSION_INFO >= (3, 5)


def first_flights(client: ssl.SSLContext, server: ssl.SSLContext) -> tuple[bytes, bytes]:
    """What a client says first, and what a server answers."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname="localhost"),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    said = []
    for end, outgoing in zip(ends, (to_server, to_client), strict=True):
        with contextlib.suppress(ssl.SSLWantReadError):
            end.do_handshake()
        said.append(outgoing.read())
        outgoing.write(said[-1])
    return said[0], said[1]


def agreed_group(server_hello: bytes) -> int:
    """The group of the key that a server chose (RFC 8446 section 4.1.3); each extension is a type, a length, a text."""
    session_bytes = server_hello[43]
    at = 44 + session_bytes + 3 + 2
    while True:
        kind, size = struct.unpack_from("!HH", server_hello, at)
        if kind == 51:
            assert size > 2  # else it asks for another key share, in a round trip more
            return int(struct.unpack_from("!H", server_hello, at + 4)[0])
        at += 4 + size


def test_keys_are_agreed_on_by_both_kinds_of_secret_where_openssl_has_them(kit: IdentityKit) -> None:
    _, answer = first_flights(client_context(kit.roots), ServerTls(kit.issue_relay()).context)
    assert agreed_group(answer) == (X25519_MLKEM768 if HAS_HYBRID else X25519)


@pytest.mark.parametrize("older", ["client", "server"])
def test_a_peer_of_an_older_openssl_costs_no_further_round_trip(kit: IdentityKit, older: str) -> None:
    client, server = client_context(kit.roots), ServerTls(kit.issue_relay()).context
    openssl = reach(client)
    assert openssl is not None
    assert openssl.set_groups(client if older == "client" else server, "X25519:P-256:P-384")
    _, answer = first_flights(client, server)
    assert agreed_group(answer) == X25519


def test_openssl_knows_the_groups() -> None:
    context = client_context()
    openssl = reach(context)
    assert openssl is not None
    assert openssl.set_groups(context, GROUPS)


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_nothing_can_be_resumed(probe: Probe, tmp_path: Path, version: str) -> None:
    session = str(tmp_path / "session")
    first, again = probe([version, "-sess_out", session], [version, "-reconnect"], stdin="hello\n")
    assert "TLS session ticket:" not in first.stdout
    assert "Reused" not in again.stdout
    assert again.stdout.count("New, TLSv1") >= 1
    if Path(session).exists():
        assert "Reused" not in probe([version, "-sess_in", session])[0].stdout


def test_the_server_keeps_no_sessions(kit: IdentityKit) -> None:
    server_tls = ServerTls(kit.issue_relay())
    client = client_context(kit.roots)
    client.maximum_version = ssl.TLSVersion.TLSv1_2

    async def main() -> None:
        async with serving(server_tls) as port:
            for _ in range(3):
                await greet(port, client)

    with asyncio.Runner() as runner:
        runner.run(main())
    assert server_tls.context.session_stats()["number"] == 0
    assert server_tls.context.session_stats()["hits"] == 0


def test_renegotiation_is_refused(kit: IdentityKit, run: Run) -> None:
    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def main() -> subprocess.CompletedProcess[str]:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        server = await asyncio.start_server(hold, "127.0.0.1", 0, ssl=ServerTls(kit.issue_relay()).context)
        port = server.sockets[0].getsockname()[1]
        result = await asyncio.to_thread(s_client, port, "-tls1_2", stdin="R\n")
        server.close()
        await server.wait_closed()
        return result

    result = run(main())
    assert "RENEGOTIATING" in result.stdout + result.stderr
    assert "no renegotiation" in result.stderr
