"""The WebSocket fields of a link upgrade, against the example of RFC 6455; the rest is tested with the upgrade."""

import base64

import pytest

from trunkline.channel.errors import HandshakeFailed
from trunkline.channel.websocket_fields import (
    accept_key,
    check_websocket_answer,
    list_items,
    new_websocket_key,
    read_websocket_key,
)

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
REQUEST = {
    b"sec-websocket-version": b"13",
    b"sec-websocket-protocol": b"chat, Yamux",
    b"sec-websocket-key": KEY,
}
ANSWER = {b"sec-websocket-accept": b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", b"sec-websocket-protocol": b"yamux"}


def test_the_proof_is_that_of_the_rfc():
    assert accept_key(KEY) == ANSWER[b"sec-websocket-accept"]


def test_keys_are_sixteen_bytes_and_new_each_time():
    first, second = new_websocket_key(), new_websocket_key()
    assert first != second
    assert len(base64.b64decode(first)) == 16


def test_a_request_names_the_subprotocol_among_others():
    assert read_websocket_key(REQUEST) == KEY


@pytest.mark.parametrize("name", list(REQUEST))
def test_a_request_without_one_of_its_fields_is_refused(name):
    with pytest.raises(HandshakeFailed):
        read_websocket_key({key: value for key, value in REQUEST.items() if key != name})


def test_the_answer_to_this_request_is_accepted():
    check_websocket_answer(ANSWER, KEY)


@pytest.mark.parametrize(
    "change",
    [
        {b"sec-websocket-accept": b"s3pPLMBiTxaQ9kYGzzhZRbK+xOp="},
        {b"sec-websocket-accept": b""},
        {b"sec-websocket-protocol": b"chat"},
        {b"sec-websocket-protocol": b""},
        {b"sec-websocket-extensions": b"permessage-deflate"},
    ],
)
def test_any_other_answer_is_refused(change):
    with pytest.raises(HandshakeFailed):
        check_websocket_answer(ANSWER | change, KEY)


def test_list_items():
    assert list_items(b"Upgrade,\tkeep-alive ") == [b"upgrade", b"keep-alive"]
