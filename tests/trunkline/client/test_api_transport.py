"""What a request is made of, before anything is sent."""

from __future__ import annotations

import pytest

from certs.tls_policy import anonymous_client_context
from tests.support.http_proxy import http_proxy
from trunkline.client.api_transport import ApiTransport, path_of
from trunkline.client.errors import DeadlineExceeded, RequestInvalid, Unreachable
from trunkline.runtime.secret import Secret


def transport(url: str) -> ApiTransport:
    return ApiTransport(url, Secret("t"), ssl_context=anonymous_client_context(None))


@pytest.mark.parametrize("segment", ["", ".", "..", "\udcff"])
def test_a_segment_cannot_make_another_path(segment: str) -> None:
    with pytest.raises(RequestInvalid):
        path_of("w", "main", segment, "nodes")


def test_segments_are_escaped() -> None:
    assert path_of("a/b", "../x", "ü?#") == "/a%2Fb/..%2Fx/%C3%BC%3F%23"


@pytest.mark.parametrize(
    "url",
    [
        "http://cp.test", "cp.test", "https://", "https://cp.test:99999", "https://cp.test:abc", "https://cp.test:0",
        "https://cp.test?x", "https://cp.test/#x", "https://[::1", "",
    ],
)  # fmt: skip
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(ValueError, match=r"address must be https|Invalid IPv6"):
        transport(url)


@pytest.mark.parametrize("user", ["me:pass-word@", "me@", ":pass-word@"])
def test_an_address_has_no_password_and_no_message_repeats_it(user: str) -> None:
    with pytest.raises(ValueError, match="without a user or password") as caught:
        transport(f"https://{user}cp.test")
    assert "pass-word" not in str(caught.value)


def test_space_around_an_address_is_not_of_it() -> None:
    assert transport(" https://cp.test:8443/\n").url == "https://cp.test:8443"


async def test_a_proxy_that_is_not_there_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:pass-word@127.0.0.1:1")
    asking = transport("https://cp.test")
    refused = r"through the proxy http://127\.0\.0\.1:1 \(HTTPS_PROXY\): Connection refused"
    try:
        with pytest.raises(Unreachable, match=refused) as caught:
            await asking.call("POST", path_of("x"), safe=False, timeout_seconds=30.0)
    finally:
        await asking.close()
    assert "pass-word" not in str(caught.value)


async def test_a_proxy_that_does_not_answer_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    async with http_proxy(silent=True) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:pass-word@127.0.0.1:{proxy.port}")
        asking = transport("https://cp.test")
        silence = rf"cp\.test did not answer through the proxy http://127\.0\.0\.1:{proxy.port} \(HTTPS_PROXY\)"
        try:
            with pytest.raises(DeadlineExceeded, match=f"{silence} within 0.05 s"):
                await asking.call("GET", path_of("x"), timeout_seconds=0.05)
            with pytest.raises(DeadlineExceeded, match=silence):
                async with asking.stream(path_of("x"), head_seconds=0.05):
                    pytest.fail("it was answered")
        finally:
            await asking.close()
