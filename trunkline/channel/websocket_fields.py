"""The WebSocket fields of a link upgrade (RFC 6455 section 4): key, proof, and the subprotocol `yamux`."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from typing import Final

from trunkline.channel.errors import HandshakeFailed

MUX_NAME: Final = b"yamux"
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY_BYTES: Final = 16


def new_websocket_key() -> bytes:
    """A fresh nonce for a WebSocket upgrade."""
    return base64.b64encode(secrets.token_bytes(_KEY_BYTES))


def read_websocket_key(fields: dict[bytes, bytes]) -> bytes:
    """The key of a request, given its fields by lower-case name.

    Raises:
        HandshakeFailed: it is no WebSocket request for a link.
    """
    if fields.get(b"sec-websocket-version") != b"13":
        raise HandshakeFailed("a WebSocket link needs Sec-WebSocket-Version: 13")
    if MUX_NAME not in list_items(fields.get(b"sec-websocket-protocol", b"")):
        raise HandshakeFailed("a WebSocket link needs the subprotocol yamux")
    key = fields.get(b"sec-websocket-key", b"")
    try:
        nonce = base64.b64decode(key, validate=True)
    except binascii.Error:
        nonce = b""
    if len(nonce) != _KEY_BYTES:
        raise HandshakeFailed("Sec-WebSocket-Key must be 16 bytes in base64")
    return key


def accept_key(key: bytes) -> bytes:
    """RFC 6455 section 4.2.2: the proof that the answer was made for this request; SHA-1 is part of that protocol."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def check_websocket_answer(fields: dict[bytes, bytes], key: bytes) -> None:
    """See that an answer was made for the request with this key.

    Raises:
        HandshakeFailed: it was not, or it names something that was not asked for.
    """
    if not hmac.compare_digest(fields.get(b"sec-websocket-accept", b""), accept_key(key)):
        raise HandshakeFailed("the WebSocket answer was not made for this request")
    if fields.get(b"sec-websocket-protocol", b"").lower() != MUX_NAME:
        raise HandshakeFailed("the WebSocket answer names another subprotocol than yamux")
    if b"sec-websocket-extensions" in fields:
        raise HandshakeFailed("the WebSocket answer names an extension that was not offered")


def list_items(value: bytes) -> list[bytes]:
    """The items of a comma-separated field, in lower case."""
    return [item.strip(b" \t").lower() for item in value.split(b",")]
