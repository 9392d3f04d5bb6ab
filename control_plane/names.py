"""Ids and names: how the control plane makes the former and which of the latter it takes.

An id is a prefix and 100 random bits, and is never used twice. A name is a DNS label (RFC 1035 section 2.3.1, digits
first allowed by RFC 1123), unique in its workspace, and may be given to another thing after its holder was deleted.
"""

import base64
import re
import secrets
from typing import Literal

from certs.bindings import COMMAND_ID

IdPrefix = Literal["ac", "op", "ws", "nd", "rl", "cl", "jt", "rj", "sg", "jp", "jq", "lk", "is"]

ID_CHARACTERS = 20
LONGEST_NAME = 63
COMMAND_ID_PATTERN = f"^{COMMAND_ID.pattern}$"
NAMED_COMMAND_PATTERN = "^[a-z0-9][a-z0-9_-]{0,62}$"
PARAMETER_PATTERN = "^[a-z][a-z0-9_]{0,62}$"

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_ID = re.compile(r"(?:ac|op|ws|nd|rl|cl|jt|rj|sg|jp|jq|lk|is)-[a-z2-7]{20}")


def new_id(prefix: IdPrefix) -> str:
    """Return a new id, e.g. `nd-k3v…`: the prefix and 20 lower-case base32 characters."""
    return f"{prefix}-{base64.b32encode(secrets.token_bytes(13)).decode()[:ID_CHARACTERS].lower()}"


def is_id(text: str) -> bool:
    """Tell whether the text has the form of an id."""
    return _ID.fullmatch(text) is not None


def checked_name(text: str) -> str:
    """Return the text if it may be a name.

    Raises:
        ValueError: it is no DNS label in lower case, or it looks like an id, which would make addresses ambiguous.
    """
    if _LABEL.fullmatch(text) is None:
        raise ValueError("must be a DNS label: 1 to 63 lower-case letters, digits and inner hyphens")
    if is_id(text):
        raise ValueError("must not have the form of an id")
    return text


def derived_name(wanted: str | None, suffix: str) -> str:
    """Return a legal name that resembles the wanted one and ends with the suffix (lower-case letters and digits)."""
    label = re.sub(r"[^a-z0-9-]+", "-", (wanted or "node").lower()).strip("-") or "node"
    return f"{label[: LONGEST_NAME - len(suffix) - 1].rstrip('-')}-{suffix}"
