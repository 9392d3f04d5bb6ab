import asyncio
import contextlib
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from certs import pins
from certs.errors import CertificateError
from certs.fingerprints import sha256_hex
from certs.pins import checked_pin, pinned_context
from certs.tls import ServerTls, TlsContext
from tests.support.identities import IdentityKit
from trunkline.runtime.loop import loop_factory

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> IdentityKit:
    return IdentityKit(tmp_path_factory.mktemp("kit"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> IdentityKit:
    return IdentityKit(tmp_path_factory.mktemp("stranger"))


@pytest.fixture(params=["asyncio", "uvloop", "auto"])
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    def run_on(main: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=loop_factory(request.param)) as runner:
            return runner.run(main)

    return run_on


async def echo_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        writer.write(await reader.read(100))
    writer.close()


async def reaches(server_tls: ServerTls, context: TlsContext, name: str = "localhost") -> bool:
    """Whether bytes pass between a client with `context` and a server with `server_tls`."""
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    server = await asyncio.start_server(echo_once, "127.0.0.1", 0, ssl=server_tls.context)
    port = server.sockets[0].getsockname()[1]
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
        writer.write(b"ping")
        answer = await reader.read()
        writer.close()
        return answer == b"ping"
    except ssl.SSLCertVerificationError:
        return False
    finally:
        server.close()
        await server.wait_closed()


def presenting(kit: IdentityKit, *, roots_of: IdentityKit | None = None) -> ServerTls:
    return ServerTls(kit.control_plane, presented_roots=(roots_of or kit).roots)


def test_the_pinned_root_is_trusted(kit: IdentityKit, run: Run) -> None:
    context = pinned_context(sha256_hex(kit.roots[0]))
    assert run(reaches(presenting(kit), context))
    assert run(reaches(presenting(kit), context)), "and again: nothing is remembered or lost"


def test_another_root_is_not(kit: IdentityKit, stranger: IdentityKit, run: Run) -> None:
    assert not run(reaches(presenting(stranger), pinned_context(sha256_hex(kit.roots[0]))))


def test_a_stranger_who_presents_the_pinned_root_is_not_trusted(
    kit: IdentityKit, stranger: IdentityKit, run: Run
) -> None:
    imposter = presenting(stranger, roots_of=kit)
    assert not run(reaches(imposter, pinned_context(sha256_hex(kit.roots[0]))))


def test_a_root_that_is_not_presented_is_not_found(kit: IdentityKit, run: Run) -> None:
    assert not run(reaches(ServerTls(kit.control_plane), pinned_context(sha256_hex(kit.roots[0]))))


def test_the_host_name_is_checked(kit: IdentityKit, run: Run) -> None:
    context = pinned_context(sha256_hex(kit.roots[0]))
    assert not run(reaches(presenting(kit), context, "elsewhere.example"))
    assert not run(reaches(ServerTls(kit.issue_node(), presented_roots=kit.roots), context))


def test_times_are_checked(tmp_path: Path, kit: IdentityKit, run: Run) -> None:
    old = IdentityKit(tmp_path, now=kit.now - 100 * 86400)
    assert not run(reaches(presenting(old), pinned_context(sha256_hex(old.roots[0]))))


def test_the_pin_of_a_leaf_or_issuing_ca_is_not_enough(kit: IdentityKit, run: Run) -> None:
    for certificate in kit.control_plane.chain.certificates:
        assert not run(reaches(presenting(kit), pinned_context(sha256_hex(certificate))))


def test_the_client_s_identity_is_presented(kit: IdentityKit, run: Run) -> None:
    server_tls = ServerTls(kit.control_plane, kit.roots, "required", presented_roots=kit.roots)
    assert run(reaches(server_tls, pinned_context(sha256_hex(kit.roots[0]), identity=kit.issue_node())))


def test_forms_of_a_pin() -> None:
    assert checked_pin("AB" * 32) == "ab" * 32
    assert checked_pin(":".join(["AB"] * 32)) == "ab" * 32
    for wrong in ("", "ab" * 31, "ab" * 33, "zz" * 32, "ab" * 31 + "é"):
        with pytest.raises(CertificateError, match="64 hexadecimal digits"):
            pinned_context(wrong)


def test_without_a_reachable_openssl_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pins, "library", lambda _: None)
    with pytest.raises(CertificateError, match="give ca_file"):
        pinned_context("ab" * 32)
