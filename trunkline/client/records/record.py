"""What all typed results of the control plane's and the agent's APIs have in common.

Unknown fields are ignored, so that an older SDK reads a newer service. Fields named ``…_time`` are integer
milliseconds since the epoch, ``…_seconds`` durations, ``…_bytes`` sizes.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

BEARER_FORM = r"^[A-Za-z0-9._~+/=-]+$"
"""What a bearer token consists of (RFC 6750, section 2.1): nothing that could end a line of a head or of a file."""


class Record(BaseModel):
    """An immutable answer of a service; unknown fields are ignored.

    Its validator is built when it is first used, since a program uses few of all the records that there are.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, defer_build=True)
