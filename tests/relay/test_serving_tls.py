"""What the relay presents: swapped while it runs, without a connection being dropped."""

import asyncio
from pathlib import Path

import pytest

from certs.chains import certificate_from_der
from certs.fingerprints import serial_hex
from certs.tls import TlsContext
from relay.identity import OwnIdentity
from relay.serving_tls import ServingTls
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
        own.replace(kit.issue_relay())
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
