"""Names of variables that a submitter may set, and those that choose what code programs run."""

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field

from node_agent.rules.base import Array, Rules

NamePattern = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}\*?$")]
NamePatterns = Annotated[tuple[NamePattern, ...], Array, Field(max_length=256)]

CODE_CHOOSING = (
    "LD_*", "GCONV_PATH", "GLIBC_TUNABLES", "LOCPATH", "NLSPATH", "MALLOC_*",
    "PATH", "IFS", "ENV", "BASH_ENV", "BASH_FUNC_*", "BASHOPTS", "SHELLOPTS", "SHELL", "PS4", "PROMPT_COMMAND",
    "CDPATH", "ZDOTDIR", "FPATH",
    "PYTHON*", "PERL*", "RUBY*", "GEM_*", "NODE_*", "NPM_*", "LUA_*", "PHPRC", "PHP_INI_SCAN_DIR", "TCL_*", "R_*",
    "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "JAVA_HOME", "CLASSPATH", "DOTNET_*", "CORECLR_*",
    "GIT_*", "SSH_ASKPASS", "SUDO_ASKPASS", "EDITOR", "VISUAL", "SYSTEMD_*", "PAGER", "MANPAGER", "BROWSER",
    "LESSOPEN", "LESSCLOSE", "TERMINFO", "TERMINFO_DIRS", "HOME", "XDG_*", "TMPDIR", "CURL_HOME", "OPENSSL_*",
    "GTK_*", "QT_*", "HOSTALIASES", "LOCALDOMAIN", "RES_OPTIONS",
    "TAR_OPTIONS", "RSYNC_*", "MAKE*", "GNUMAKEFLAGS", "VIMINIT", "EXINIT", "LESS", "LESSKEY*", "KUBECONFIG",
    "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "DOCKER_CONFIG", "ANSIBLE_*", "GOFLAGS", "CARGO_*", "RUSTC_*",
)  # fmt: skip
"""Variables by which whoever sets them can make a program load or run something else, or look elsewhere for it.

Where the argument list is free they give nothing that the argument list does not; where the owner has fixed it, they
would undo that. So a pattern of a named command never means them: only their whole name does.
"""


class EnvironmentRules(Rules):
    """Variables that commands may be given; a pattern ends in `*`, and then means every name that begins so."""

    allowed: NamePatterns | None = None
    forbidden: NamePatterns = ()


def first_unmatched(names: Iterable[str], patterns: NamePatterns) -> str | None:
    """Return the first of the names, sorted, that none of the patterns means."""
    return next((name for name in sorted(names) if not _means(patterns, name)), None)


def first_matched(names: Iterable[str], patterns: NamePatterns) -> str | None:
    """Return the first of the names, sorted, that one of the patterns means."""
    return next((name for name in sorted(names) if _means(patterns, name)), None)


def first_not_granted(names: Iterable[str], granted: NamePatterns) -> str | None:
    """Return the first of the names that a named command does not take: what chooses code must be granted by name."""
    return next((name for name in sorted(names) if not _granted(granted, name)), None)


def _granted(granted: NamePatterns, name: str) -> bool:
    return name in granted or (_means(granted, name) and not _means(CODE_CHOOSING, name))


def _means(patterns: NamePatterns, name: str) -> bool:
    return any(name.startswith(one[:-1]) if one.endswith("*") else name == one for one in patterns)
