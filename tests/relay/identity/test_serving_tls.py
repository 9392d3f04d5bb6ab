"""What the relay presents: swapped while it runs, without a connection being dropped."""

import asyncio
from pathlib import Path

import pytest

from certs.chains import certificate_from_der
from certs.fingerprints import serial_hex
from certs.identities import Identity
from certs.tls import TlsContext
from relay.identity.own_identity import OwnIdentity
from relay.identity.serving_tls import ServingTls
from relay.settings import CertificateSettings
from tests.support.identities import IdentityKit
from tests.support.relay_trust import TrustPress
from trunkline.runtime.logs import get_logger

BOTH_LOOPS = True


class Echo(asyncio.Protocol):
    """Sends back what comes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def kit(tmp_path_factory) -> IdentityKit:
    return IdentityKit(tmp_path_factory.mktemp("identities"))


async def connected(port: int, context: TlsContext) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, str]:
    reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return reader, writer, serial_hex(certificate_from_der(der))


async def test_a_connection_outlives_a_renewal_and_the_next_handshake_shows_the_new_leaf(
    kit: IdentityKit, tmp_path: Path
):
    own = OwnIdentity(kit.issue_relay(), tmp_path / "identity.pem")
    serving = ServingTls(own, TrustPress(kit).store(), None, log=get_logger("test"))
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0, ssl=serving.context)
    port = server.sockets[0].getsockname()[1]
    reader, writer, before = await connected(port, kit.client_tls())
    assert before == own.current.serial
    for _ in range(3):
        await own.replace(kit.issue_relay())
        writer.write(b"still here")
        assert await reader.readexactly(10) == b"still here"
        _, other, shown = await connected(port, kit.client_tls())
        assert shown == own.current.serial != before
        other.close()
        await other.wait_closed()
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


def write_pair(kit: IdentityKit, directory: Path, *, lifetime_seconds: float) -> tuple[CertificateSettings, Identity]:
    """The files of a certificate that its owner renews; any that names the relay will do."""
    public = kit.issue_relay("rl-public", lifetime_seconds=lifetime_seconds)
    chain, key = directory / "chain.pem", directory / "key.pem"
    chain.write_text(public.chain.pem)
    public.write(key)
    return CertificateSettings(chain_file=chain, key_file=key), public


async def test_when_the_presented_certificate_ends_is_known_whoever_renews_it(kit: IdentityKit, tmp_path: Path):
    own = OwnIdentity(kit.issue_relay(lifetime_seconds=3600), tmp_path / "identity.pem")
    serving = ServingTls(own, TrustPress(kit).store(), None, log=get_logger("test"))
    assert serving.not_after == own.current.not_after
    await own.replace(kit.issue_relay(lifetime_seconds=7200))
    assert serving.not_after == own.current.not_after

    settings, public = write_pair(kit, tmp_path, lifetime_seconds=10_000)
    serving = ServingTls(own, TrustPress(kit).store(), settings, log=get_logger("test"))
    assert serving.not_after == public.not_after != own.current.not_after
    _, renewed = write_pair(kit, tmp_path, lifetime_seconds=20_000)
    assert serving.not_after == public.not_after
    serving.reload()
    assert serving.not_after == renewed.not_after
    (tmp_path / "chain.pem").write_text("damaged")
    serving.reload()
    assert serving.not_after == renewed.not_after
