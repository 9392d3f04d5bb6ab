"""What was asked for, as people read it."""

from __future__ import annotations

from typing import Any

from trunkline.client.script_loader import script_words


def command_words(argv: list[str], named: str | None, parameters: dict[str, Any] | None) -> list[str]:
    """An argument list, a script, or a named command with its parameters."""
    if named is None:
        script = script_words(argv)
        return argv if script is None else ["script", *script]
    return [f"named:{named}", *(f"{name}={value}" for name, value in (parameters or {}).items())]
