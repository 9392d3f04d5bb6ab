"""Request targets: the four forms of RFC 9112 section 3.2, and the authority that a request is for.

Accepted are visible ASCII characters only, never a fragment, never user information, and in paths only complete
percent-escapes. The target's text is never decoded or normalised: what was checked is what is forwarded.
"""

import re
from enum import Enum
from typing import Final, NamedTuple

from trunkline.channel.fields import HeadError

MAX_TARGET_BYTES: Final = 8 * 1024
HTTP_PORT: Final = 80

_PATH_CHARACTERS: Final = rb"[A-Za-z0-9\-._~!$&'()*+,;=:@/\[\]|^{}]*+"
_PATH: Final = rb"/" + _PATH_CHARACTERS + rb"(?:%[0-9A-Fa-f]{2}" + _PATH_CHARACTERS + rb")*+"
_QUERY: Final = rb"\?[\x21\x22\x24-\x7e]*+"
_ORIGIN: Final = re.compile(_PATH + rb"(?:" + _QUERY + rb")?+")
_HOST: Final = rb"[A-Za-z0-9](?:[A-Za-z0-9._\-]{0,253}+)|\[[0-9A-Fa-f:.]{2,45}+\]"
_AUTHORITY: Final = re.compile(rb"(" + _HOST + rb")(?::([1-9][0-9]{0,4}))?+")
_ABSOLUTE: Final = re.compile(rb"[Hh][Tt][Tt][Pp]://([^/?#]++)((?:" + _PATH + rb")?+)((?:" + _QUERY + rb")?+)")


class TargetForm(Enum):
    """The four forms of a request target."""

    ORIGIN = "origin"
    ABSOLUTE = "absolute"
    AUTHORITY = "authority"
    ASTERISK = "asterisk"


class Authority(NamedTuple):
    """A host in lower case, and its port; `port` is None when none was written."""

    host: bytes
    port: int | None


class Target(NamedTuple):
    """A parsed target: `origin` is what goes into a request line in origin-form (`*` for a bare OPTIONS)."""

    form: TargetForm
    authority: Authority | None
    origin: bytes


def parse_authority(value: bytes) -> Authority:
    """Parses `host` or `host:port`; raises HeadError for user information, empty or out-of-range parts."""
    match = _AUTHORITY.fullmatch(value)
    port = int(match[2]) if match is not None and match[2] is not None else None
    if match is None or (port is not None and port > 65535):
        raise HeadError("bad_authority", "the authority is not host or host:port")
    return Authority(match[1].lower(), port)


def parse_target(method: bytes, target: bytes) -> Target:
    """Parses a request target; raises HeadError 414 when it is too long and 400 when it has no form for `method`."""
    if len(target) > MAX_TARGET_BYTES:
        raise HeadError("target_too_long", f"the request target has more than {MAX_TARGET_BYTES} bytes", 414)
    if method == b"CONNECT":
        return _parse_authority_form(target)
    if _ORIGIN.fullmatch(target):
        return Target(TargetForm.ORIGIN, None, target)
    if target == b"*" and method == b"OPTIONS":
        return Target(TargetForm.ASTERISK, None, target)
    return _parse_absolute_form(method, target)


def _parse_authority_form(target: bytes) -> Target:
    authority = parse_authority(target)
    if authority.port is None:
        raise HeadError("bad_authority", "CONNECT needs host:port")
    return Target(TargetForm.AUTHORITY, authority, target)


def _parse_absolute_form(method: bytes, target: bytes) -> Target:
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise HeadError("bad_target", "the request target is malformed")
    authority, path, query = match.groups()
    if not path and not query and method == b"OPTIONS":
        return Target(TargetForm.ABSOLUTE, parse_authority(authority), b"*")
    return Target(TargetForm.ABSOLUTE, parse_authority(authority), (path or b"/") + query)


def same_authority(one: Authority, other: Authority) -> bool:
    """Whether both name the same host and port; no port means 80."""
    return one.host == other.host and (one.port or HTTP_PORT) == (other.port or HTTP_PORT)
