"""How workspace secrets are named, and the references by which a command asks for them.

A secret is `scope/key`. Scopes and keys are the names that Databricks takes: letters, digits, `_`, `-`, `.`, and `@` in
scopes, at most 128 characters; neither holds a slash, so that a reference has one reading.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from control_plane.errors import ApiError, not_found

SCOPE_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.@-]{0,127}$"
KEY_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$"
REFERENCE_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.@-]{0,127}/[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$"
VARIABLE_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]{0,127}$"
FILE_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$"
MOST_REFERENCES = 32

_REFERENCE = re.compile(REFERENCE_PATTERN.replace("$", r"\Z"))


@dataclass(frozen=True, slots=True, order=True)
class SecretName:
    """A secret's name in its workspace."""

    scope: str
    key: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the name that `scope/key` means.

        Raises:
            ValueError: it is not of that form.
        """
        if _REFERENCE.match(text) is None:
            raise ValueError("must be SCOPE/KEY")
        scope, _, key = text.partition("/")
        return cls(scope, key)

    def __str__(self) -> str:
        return f"{self.scope}/{self.key}"


def no_such_secret(workspace: str, *, field: str | None = None) -> ApiError:
    """Return the refusal of a secret that does not exist in the workspace of this name; see `not_found`."""
    listed_at = f"/w/{workspace}/api/2.0/secrets/list?scope=…"
    return not_found("secret", listed_at, place=f" in the workspace {workspace}", field=field)


def names_in(references: Mapping[str, Any] | None) -> list[SecretName]:
    """Return the secrets that a submission refers to, each once, sorted; `references` has been checked already."""
    named: set[str] = set()
    for way in ("environment", "files"):
        named.update((references or {}).get(way, {}).values())
    return sorted(SecretName.parse(text) for text in named)
