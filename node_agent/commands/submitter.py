"""Who submits a command, as far as admission and the record of it need to know."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Submitter:
    """Who submits: the `sub` of the token; its `jti` where it may be used only once.

    `replayable_until`, in seconds since the epoch, is when no token of this submit can be accepted any more. `bound`
    says that the token names both the body and the command. `initialises` is the agent itself, with an init script that
    the owner's `[init]` lets it run, as the user that it names.
    """

    subject: str
    token_id: str | None = None
    replayable_until: int = 0
    bound: bool = False
    initialises: bool = False
