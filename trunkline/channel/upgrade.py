"""The link upgrade: `GET /v1/link` and the answer to it, for a bare yamux link and for one inside a WebSocket.

Both ends are here, as pure functions over parsed heads. The dialling end writes a `LinkRequest` and reads the answer;
the relay reads a `LinkRequest` from a request head and writes the `101`. A refusal that the relay wrote itself becomes
a `LinkRefused`, which carries what it said. The WebSocket fields follow RFC 6455 section 4; nothing but the subprotocol
`yamux` is accepted, and no extension is ever offered or agreed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final
from uuid import UUID

from trunkline.channel.errors import HandshakeFailed, LocalProtocolError
from trunkline.channel.fields import Framing, is_field_value
from trunkline.channel.heads import RequestHead, ResponseHead
from trunkline.channel.terms import OWN_TERMS, LinkTerms, agree, check_answer, read_terms, write_terms
from trunkline.channel.websocket_fields import (
    MUX_NAME,
    accept_key,
    check_websocket_answer,
    list_items,
    read_websocket_key,
)

LINK_PATH: Final = b"/v1/link"
MOST_REFUSAL_BYTES: Final = 16_384
LONGEST_RETURN_SECONDS: Final = 60
"""Over so long a fleet may be asked to spread its return; a relay that asks for more is taken to ask for this."""

_LARGEST_SEQUENCE: Final = 2**63 - 1
_LARGEST_RETRY_AFTER_SECONDS: Final = 3_600
_MOST_MESSAGE_CHARACTERS: Final = 300
_ONCE: Final = frozenset(
    {
        b"upgrade",
        b"authorization",
        b"trunkline-version",
        b"trunkline-features",
        b"trunkline-window",
        b"trunkline-instance",
        b"trunkline-sequence",
        b"trunkline-return-within",
        b"trunkline-request-id",
        b"sec-websocket-key",
        b"sec-websocket-version",
        b"sec-websocket-accept",
        b"retry-after",
        b"proxy-status",
    }
)


class Carrier(Enum):
    """What carries the mux on the upgraded connection; the value is the upgrade's name."""

    YAMUX = b"yamux"
    WEBSOCKET = b"websocket"


class LinkRefused(HandshakeFailed):
    """The other side answered the upgrade with a refusal.

    Attributes:
        status: the HTTP status of the answer.
        error_code: the relay's own code, or None where something between answered.
        retry_after_seconds: how long to stay away, if the answer said so.
        request_id: the relay's id of the attempt, for whoever asks its operator.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        error_code: str | None = None,
        retry_after_seconds: int | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error_code = error_code
        self.retry_after_seconds = retry_after_seconds
        self.request_id = request_id

    @property
    def from_relay(self) -> bool:
        """Whether a relay answered, and not something between."""
        return self.error_code is not None


@dataclass(frozen=True, slots=True)
class LinkRequest:
    """One attempt to open a link.

    Attributes:
        authority: the relay's host and port, as the Host field has it.
        carrier: what shall carry the mux.
        terms: what the dialling end offers.
        token: the listen or call token, or None where the client certificate is enough.
        instance: a listener's process, new at each start.
        sequence: a listener's link number within its instance, ascending.
        websocket_key: the base64 nonce of a WebSocket upgrade.
    """

    authority: str
    carrier: Carrier = Carrier.YAMUX
    terms: LinkTerms = OWN_TERMS
    token: str | None = field(default=None, repr=False)
    instance: UUID | None = None
    sequence: int | None = None
    websocket_key: bytes | None = None


def write_link_request(request: LinkRequest) -> bytes:
    """The request head that asks for the link."""
    fields = [
        (b"Host", request.authority.encode("ascii")),
        (b"Connection", b"Upgrade"),
        (b"Upgrade", request.carrier.value),
    ]
    if request.websocket_key is not None:
        fields.append((b"Sec-WebSocket-Key", request.websocket_key))
        fields.append((b"Sec-WebSocket-Version", b"13"))
        fields.append((b"Sec-WebSocket-Protocol", MUX_NAME))
    if request.token is not None:
        fields.append((b"Authorization", b"Bearer " + request.token.encode("ascii")))
    fields.extend(write_terms(request.terms))
    if request.instance is not None:
        fields.append((b"Trunkline-Instance", str(request.instance).encode("ascii")))
    if request.sequence is not None:
        fields.append((b"Trunkline-Sequence", b"%d" % request.sequence))
    return _write_head(b"GET " + LINK_PATH + b" HTTP/1.1", fields)


def read_link_request(head: RequestHead) -> LinkRequest:
    """What a request head for `/v1/link` asks for.

    Raises:
        HandshakeFailed: it is no well-formed request for a link; the answer is 400.
    """
    fields = _read_fields(head.fields)
    if head.method != b"GET" or head.target != LINK_PATH or head.framing is not Framing.NONE:
        raise HandshakeFailed("a link is opened with GET /v1/link, without a body")
    carrier = _read_carrier(fields)
    return LinkRequest(
        authority=fields.get(b"host", b"").decode("latin-1"),
        carrier=carrier,
        terms=read_terms(fields),
        token=_read_bearer(fields.get(b"authorization")),
        instance=_read_instance(fields.get(b"trunkline-instance")),
        sequence=_read_sequence(fields.get(b"trunkline-sequence")),
        websocket_key=read_websocket_key(fields) if carrier is Carrier.WEBSOCKET else None,
    )


def accept_link(
    request: LinkRequest, request_id: str, own: LinkTerms = OWN_TERMS, *, return_within_seconds: int = 0
) -> tuple[bytes, LinkTerms]:
    """The `101` that grants `request`, and the terms that hold from its last byte on.

    `return_within_seconds` tells a listener over how long to spread its return, should the relay go; 0 says nothing.
    """
    terms = agree(request.terms, own)
    fields = [(b"Connection", b"Upgrade"), (b"Upgrade", request.carrier.value)]
    if request.websocket_key is not None:
        fields.append((b"Sec-WebSocket-Accept", accept_key(request.websocket_key)))
        fields.append((b"Sec-WebSocket-Protocol", MUX_NAME))
    fields.extend(write_terms(terms))
    fields.append((b"Trunkline-Request-Id", request_id.encode("ascii")))
    if return_within_seconds:
        fields.append((b"Trunkline-Return-Within", b"%d" % return_within_seconds))
    return _write_head(b"HTTP/1.1 101 Switching Protocols", fields), terms


def read_link_response(head: ResponseHead, request: LinkRequest) -> LinkTerms:
    """The terms that a `101` to `request` grants.

    Raises:
        HandshakeFailed: the `101` is not the answer to this request.
    """
    fields = _read_fields(head.fields)
    if head.upgrade is None or head.upgrade.lower() != request.carrier.value:
        raise HandshakeFailed("the relay switched to another protocol than the one asked for")
    if request.websocket_key is not None:
        check_websocket_answer(fields, request.websocket_key)
    agreed = check_answer(request.terms, read_terms(fields))
    within_seconds = _read_seconds(fields.get(b"trunkline-return-within"), LONGEST_RETURN_SECONDS)
    return replace(agreed, return_within_seconds=within_seconds) if within_seconds else agreed


def read_refusal(head: ResponseHead, body: bytes) -> LinkRefused:
    """The refusal that an answer other than `101` states; `body` may be cut short at `MOST_REFUSAL_BYTES`."""
    fields: dict[bytes, bytes] = {}
    for name, value in head.fields:
        fields.setdefault(name.lower(), value)
    error_code: str | None = None
    message = f"something between answered the link upgrade with status {head.status}"
    if fields.get(b"proxy-status", b"").startswith(b"trunkline-relay"):
        error_code, message = _read_error(body)
    request_id = fields.get(b"trunkline-request-id")
    return LinkRefused(
        head.status,
        message or f"the relay refused the link with status {head.status}",
        error_code=error_code,
        retry_after_seconds=_read_seconds(fields.get(b"retry-after"), _LARGEST_RETRY_AFTER_SECONDS),
        request_id=None if request_id is None else request_id.decode("latin-1"),
    )


def _write_head(start_line: bytes, fields: list[tuple[bytes, bytes]]) -> bytes:
    if not all(is_field_value(value) for _, value in fields):
        raise LocalProtocolError("a token or a host name that does not fit into a header field")
    lines = [start_line, *(name + b": " + value for name, value in fields)]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _read_fields(fields: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Fields by lower-case name; list fields are joined, a repeated single field is refused."""
    found: dict[bytes, bytes] = {}
    for name, value in fields:
        key = name.lower()
        if key not in found:
            found[key] = value
        elif key in _ONCE:
            raise HandshakeFailed(f"the field {key.decode('latin-1')} occurs twice")
        else:
            found[key] += b", " + value
    return found


def _read_carrier(fields: dict[bytes, bytes]) -> Carrier:
    if b"upgrade" not in list_items(fields.get(b"connection", b"")):
        raise HandshakeFailed("a link needs the field Connection: Upgrade")
    try:
        return Carrier(fields.get(b"upgrade", b"").lower())
    except ValueError:
        raise HandshakeFailed("a link needs the field Upgrade: yamux, or Upgrade: websocket") from None


def _read_bearer(value: bytes | None) -> str | None:
    if value is None:
        return None
    scheme, _, token = value.partition(b" ")
    if scheme.lower() != b"bearer" or not token or not token.isascii() or b" " in token:
        raise HandshakeFailed("a link is authorised with Authorization: Bearer and one token")
    return token.decode("ascii")


def _read_instance(value: bytes | None) -> UUID | None:
    if value is None:
        return None
    try:
        instance = UUID(value.decode("ascii"))
    except ValueError:
        raise HandshakeFailed("Trunkline-Instance must be a UUID") from None
    if str(instance).encode("ascii") != value:
        raise HandshakeFailed("Trunkline-Instance must be a UUID in its lower-case form with hyphens")
    return instance


def _read_sequence(value: bytes | None) -> int | None:
    if value is None:
        return None
    if not value.isdigit() or len(value) > len(str(_LARGEST_SEQUENCE)) or int(value) > _LARGEST_SEQUENCE:
        raise HandshakeFailed("Trunkline-Sequence must be a number below 2^63")
    return int(value)


def _read_error(body: bytes) -> tuple[str, str]:
    """`error_code` and `message` of an error body; strangers' bodies give a general code and no message."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        return "UNKNOWN", ""
    error_code, message = document.get("error_code"), document.get("message")
    return (
        error_code if isinstance(error_code, str) and error_code else "UNKNOWN",
        _printable(message) if isinstance(message, str) else "",
    )


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text[:_MOST_MESSAGE_CHARACTERS])


def _read_seconds(value: bytes | None, most: int) -> int | None:
    """A number of seconds, bounded; None where there is none that can be read."""
    if value is None or not value.isdigit() or len(value) > len(str(_LARGEST_RETRY_AFTER_SECONDS)):
        return None
    return min(int(value), most)
