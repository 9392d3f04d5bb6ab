"""Going through an HTTP proxy: the environment's rules, and the CONNECT exchange."""

import asyncio

import pytest

from trunkline.channel.errors import ConnectionLost, HandshakeFailed
from trunkline.channel.proxy_connect import (
    ConnectProtocol,
    ProxyAddress,
    ProxyRefused,
    is_excepted,
    parse_proxy_url,
    proxy_from_environment,
    write_connect,
)

PROXY = ProxyAddress("http", "proxy.test", 3128)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://proxy.test:3128", ProxyAddress("http", "proxy.test", 3128)),
        ("proxy.test:3128", ProxyAddress("http", "proxy.test", 3128)),
        ("http://proxy.test/", ProxyAddress("http", "proxy.test", 80)),
        ("https://proxy.test", ProxyAddress("https", "proxy.test", 443)),
        ("http://[::1]:3128", ProxyAddress("http", "::1", 3128)),
        ("http://user:p%40ss@proxy.test:1", ProxyAddress("http", "proxy.test", 1, "Basic dXNlcjpwQHNz")),
        ("http://user@proxy.test:1", ProxyAddress("http", "proxy.test", 1, "Basic dXNlcjo=")),
    ],
)
def test_proxy_urls(url, expected):
    assert parse_proxy_url(url) == expected


@pytest.mark.parametrize(
    "url",
    ["socks5://proxy.test:1", "http://", "http://u:secret@proxy.test/path", "http://h:99999", "http://h:1?secret"],
)
def test_what_is_no_proxy_url_is_refused_without_repeating_it(url):
    with pytest.raises(ValueError, match=r"proxy|[Pp]ort") as caught:
        parse_proxy_url(url)
    assert "secret" not in str(caught.value)


def test_credentials_are_not_shown():
    proxy = parse_proxy_url("http://user:secret@proxy.test:1")
    assert str(proxy) == "http://proxy.test:1"
    assert proxy.authorization is not None
    assert proxy.authorization not in repr(proxy)


@pytest.mark.parametrize(
    ("exceptions", "host", "port", "excepted"),
    [
        ("", "relay.test", 443, False),
        ("*", "relay.test", 443, True),
        ("relay.test", "relay.test", 443, True),
        ("RELAY.test", "relay.TEST", 443, True),
        ("test", "relay.test", 443, True),
        (".test", "relay.test", 443, True),
        ("*.test", "relay.test", 443, True),
        ("lay.test", "relay.test", 443, False),
        ("other.test, relay.test", "relay.test", 443, True),
        ("other.test relay.test", "relay.test", 443, True),
        ("relay.test:8443", "relay.test", 443, False),
        ("relay.test:443", "relay.test", 443, True),
        ("relay.test.", "relay.test", 443, True),
        ("10.0.0.0/8", "10.1.2.3", 443, True),
        ("10.0.0.0/8", "11.1.2.3", 443, False),
        ("10.0.0.0/8", "relay.test", 443, False),
        ("10.1.2.3", "10.1.2.3", 443, True),
        ("10.1.2.3:80", "10.1.2.3", 443, False),
        ("2.3", "10.1.2.3", 443, False),
        ("::1", "::1", 443, True),
        ("[::1]:443", "::1", 443, True),
        ("0:0:0:0:0:0:0:1", "::1", 443, True),
        ("fd00::/8", "fd12::1", 443, True),
        ("fd00::/8", "10.0.0.1", 443, False),
        ("10.0.0.0/99", "10.1.2.3", 443, False),
        (".", "relay.test", 443, False),
    ],
)
def test_no_proxy(exceptions, host, port, excepted):
    assert is_excepted(host, port, exceptions) is excepted


def test_the_environment_names_the_proxy():
    environ = {"HTTPS_PROXY": "http://proxy.test:3128", "NO_PROXY": "direct.test"}
    assert proxy_from_environment("relay.test", 443, environ) == PROXY
    assert proxy_from_environment("direct.test", 443, environ) is None
    assert proxy_from_environment("relay.test", 443, {}) is None
    assert proxy_from_environment("relay.test", 443, {"https_proxy": "", "HTTPS_PROXY": ""}) is None
    lower = {"https_proxy": "http://other.test:1", "no_proxy": "relay.test"}
    assert proxy_from_environment("direct.test", 443, environ | lower) == ProxyAddress("http", "other.test", 1)


def test_the_request_is_pinned():
    proxy = ProxyAddress("http", "proxy.test", 3128, "Basic dTpw")
    assert write_connect(proxy, "::1", 443) == (
        b"CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\nProxy-Authorization: Basic dTpw\r\n\r\n"
    )


class RecordingTransport(asyncio.Transport):
    def __init__(self):
        super().__init__()
        self.written = b""
        self.reading = True

    def write(self, data):
        self.written += data

    def pause_reading(self):
        self.reading = False


async def exchange(answer, *, split=None):
    protocol = ConnectProtocol(PROXY, "relay.test", 443, asyncio.get_running_loop())
    transport = RecordingTransport()
    protocol.connection_made(transport)
    assert transport.written == write_connect(PROXY, "relay.test", 443)
    step = split or len(answer) or 1
    for start in range(0, len(answer), step):
        protocol.data_received(answer[start : start + step])
    protocol.connection_lost(None)
    try:
        await protocol.done
    finally:
        assert transport.reading is False or not answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("split", [None, 1])
@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.0 200 Connection established\r\nVia: x\r\n\r\n"]
)
async def test_any_two_hundred_opens_the_connection(answer, split):
    await exchange(answer, split=split)


@pytest.mark.parametrize(("status", "hint"), [(407, "user:password@"), (403, "status 403"), (302, "status 302")])
async def test_a_refusal_keeps_its_status(status, hint):
    with pytest.raises(ProxyRefused, match=hint) as caught:
        await exchange(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status)
    assert caught.value.status == status


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1 200 OK\n\n\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nBad Name: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nbytes that come too early",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 40_000,
    ],
)
async def test_an_answer_that_is_not_clean_http_is_refused(answer):
    with pytest.raises(HandshakeFailed):
        await exchange(answer)


async def test_a_proxy_that_hangs_up():
    with pytest.raises(ConnectionLost):
        await exchange(b"HTTP/1.1 200")
