"""The doors: which of them a request head is at, where it wants to go, and the token that it brings.

The decision is a pure function of the head, so that it can be kept for heads that come again.
"""

import base64
import binascii
import re
from enum import Enum
from typing import Final, NamedTuple

from relay.doors.destinations import NodeNames
from relay.trust.credentials import Destination
from trunkline.channel.fields import Framing
from trunkline.channel.heads import RequestHead
from trunkline.channel.memo import Memo
from trunkline.channel.outcomes import Outcome
from trunkline.channel.targets import TargetForm
from trunkline.channel.upgrade import LINK_PATH

_TOKEN: Final = re.compile(rb"[A-Za-z0-9\-._~+/]++=*+")
_ASKING: Final = (b"GET", b"HEAD")
_BEARER: Final = re.compile(rb"(?i:bearer) ++([A-Za-z0-9\-._~+/]++=*+) *+")
READY_PATH: Final = b"/v1/ready"
MAX_CREDENTIALS_BYTES: Final = 8 * 1024
KNOWN_TOKENS: Final = 1024
MAX_KNOWN_TOKEN_BYTES: Final = 2048
"""Most tokens have some 700 bytes. Longer ones are read anew: nobody has verified yet what a stranger sends as one."""


class Door(Enum):
    """By which of the three doors a call comes; the value is its label in metrics."""

    PROXY = "proxy"
    GATEWAY = "gateway"
    LINK = "link"

    # By identity: Enum's own hash is a Python function, called several times for each call.
    __hash__ = object.__hash__


class Entry(NamedTuple):
    """A request that names a node: `target` is what the node will see in its request line."""

    door: Door
    destination: Destination
    target: bytes
    token: str | None


class DoorRefusal(NamedTuple):
    """A request that is answered at the door."""

    door: Door
    outcome: Outcome
    message: str


class LinkAttempt(NamedTuple):
    """A request for `/v1/link`."""

    head: RequestHead


class ReadinessQuestion(NamedTuple):
    """A request for `/v1/ready`, which load balancers ask that reach no other port than this one."""

    head_only: bool


def _refused_method(head: RequestHead, door: Door) -> DoorRefusal | None:
    """TRACE would echo credentials; OPTIONS with Max-Forwards asks for a hop that counts (RFC 9110 section 7.6.2)."""
    if head.method == b"TRACE" or (head.method == b"OPTIONS" and b"max-forwards" in head.watched):
        return DoorRefusal(door, Outcome.NOT_IMPLEMENTED, "TRACE and Max-Forwards are not supported")
    return None


class Doors:
    """Decides on heads. Credentials that come again are not decoded again."""

    __slots__ = ("_bearer_token", "_names", "_proxy_token")

    def __init__(self, names: NodeNames) -> None:
        self._names = names
        self._bearer_token = Memo(bearer_token, generation_entries=KNOWN_TOKENS, max_key_bytes=MAX_KNOWN_TOKEN_BYTES)
        self._proxy_token = Memo(proxy_token, generation_entries=KNOWN_TOKENS, max_key_bytes=MAX_KNOWN_TOKEN_BYTES)

    def age(self) -> None:
        """Has credentials that nobody sends any more forgotten."""
        self._bearer_token.age()
        self._proxy_token.age()

    def choose(self, head: RequestHead) -> Entry | DoorRefusal | LinkAttempt | ReadinessQuestion:
        """Decides for a head that came on a TLS connection."""
        refusal = _refused_method(head, Door.GATEWAY if head.target_form is TargetForm.ORIGIN else Door.PROXY)
        if refusal is not None:
            return refusal
        if head.target_form is TargetForm.ORIGIN:
            return self._at_gateway(head)
        if head.target_form is TargetForm.ASTERISK:
            return DoorRefusal(Door.GATEWAY, Outcome.NOT_FOUND, "the relay itself has no options")
        return self._at_proxy(head, Door.PROXY)

    def enter_by_link(self, head: RequestHead) -> Entry | DoorRefusal:
        """Decides for a head that came on a stream of a sender's link: origin-form with Host, or CONNECT."""
        refusal = _refused_method(head, Door.LINK)
        if refusal is not None:
            return refusal
        if head.target_form is TargetForm.ABSOLUTE:
            return DoorRefusal(Door.LINK, Outcome.BAD_REQUEST, "on a link, write the path in the request line and Host")
        return self._at_proxy(head, Door.LINK)

    def _at_gateway(self, head: RequestHead) -> Entry | DoorRefusal | LinkAttempt | ReadinessQuestion:
        if head.target == LINK_PATH:
            return LinkAttempt(head)
        found = self._names.gateway_target(head.target)
        if found is None:
            if head.target == READY_PATH and head.method in _ASKING and head.framing is Framing.NONE:
                return ReadinessQuestion(head.method == b"HEAD")
            message = "call a node at /v1/workspaces/<workspace>/nodes/<node>[:port]/<path>"
            return DoorRefusal(Door.GATEWAY, Outcome.NOT_FOUND, message)
        credentials = head.watched.get(b"authorization")
        token = self._bearer_token(credentials) if credentials is not None else None
        return Entry(Door.GATEWAY, found.destination, found.target, token)

    def _at_proxy(self, head: RequestHead, door: Door) -> Entry | DoorRefusal:
        credentials = head.watched.get(b"proxy-authorization")
        token = self._proxy_token(credentials) if credentials is not None else None
        destination = self._names.destination(head.host, head.port) if head.host is not None else None
        if destination is not None:
            return Entry(door, destination, head.target_origin, token)
        if token is None:
            return DoorRefusal(door, Outcome.NO_TOKEN, "a token is needed in Proxy-Authorization")
        return DoorRefusal(door, Outcome.NOT_FOUND, "this relay reaches only <node>.<workspace>.<suffix>")


def bearer_token(value: bytes) -> str | None:
    """The token of a Bearer credential (RFC 6750); None when it is malformed."""
    match = _BEARER.fullmatch(value) if len(value) <= MAX_CREDENTIALS_BYTES else None
    return match[1].decode("ascii") if match is not None else None


def proxy_token(value: bytes) -> str | None:
    """The token of a Bearer credential, or the password of a Basic one (RFC 7617)."""
    scheme, _, encoded = value.partition(b" ")
    if scheme.lower() != b"basic":
        return bearer_token(value)
    if len(encoded) > MAX_CREDENTIALS_BYTES:
        return None
    try:
        _, _, password = base64.b64decode(encoded.strip(b" "), validate=True).partition(b":")
    except binascii.Error:
        return None
    return password.decode("ascii") if _TOKEN.fullmatch(password) else None
