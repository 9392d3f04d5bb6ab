"""What an agent's rules are called: after its state directory, so that the next agent of it finds them again."""

import hashlib
import os
from pathlib import Path

_DIGITS = 12


def table_of(state_directory: Path) -> str:
    """Return the name of the agent's table of nftables."""
    return f"trunkline_{_digest(state_directory)}"


def chain_of(state_directory: Path) -> str:
    """Return the name of the agent's chain of iptables, which may have 28 characters."""
    return f"TRUNKLINE-{_digest(state_directory)}"


def _digest(state_directory: Path) -> str:
    return hashlib.sha256(os.fsencode(state_directory.resolve())).hexdigest()[:_DIGITS]
