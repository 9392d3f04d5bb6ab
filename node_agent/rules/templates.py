"""Argument lists with places for parameters: `{name}` within an element, `{{` and `}}` for the braces themselves.

An element stays one element whatever is put into it. What a shell would read may have no place in it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from posixpath import basename

_PART = re.compile(r"\{\{|\}\}|\{([a-z][a-z0-9_]*)\}|[{}]")
_SHELLS = frozenset(
    {"sh", "ash", "bash", "dash", "fish", "ksh", "mksh", "rbash", "zsh", "csh", "tcsh", "su", "runuser"}
)
_SCRIPT_OPTION = re.compile(r"-[A-Za-z]*c[A-Za-z]*|--(?:session-|init-)?command")
# With the script behind it in the same element, as these take it.
_TAKE_ATTACHED = frozenset({"su", "runuser", "fish"})
_SCRIPT_ATTACHED = re.compile(r"-[A-Za-z]*c|--(?:session-|init-)?command=")
_OPTION_WITH_ARGUMENT = re.compile(r"[-+][A-Za-z]*[oO]")


def places_of(element: str) -> list[str]:
    """Return the names of the places in an element, in order.

    Raises:
        ValueError: a brace stands alone.
    """
    found = list(_PART.finditer(element))
    if any(part[0] in ("{", "}") for part in found):
        raise ValueError(f"{element!r} has a single brace: a place is {{name}}, and braces are written {{{{ and }}}}")
    return [part[1] for part in found if part[1] is not None]


def filled(template: Sequence[str], texts: Mapping[str, str | None]) -> list[str]:
    """Return the argument list; an element that is the place of None alone is left out."""
    return [_element(element, texts) for element in template if not _left_out(element, texts)]


def check_template(template: Sequence[str]) -> set[str]:
    """Return the names of all places.

    Raises:
        ValueError: a single brace, a program that is not fixed, or a place within what a shell reads.
    """
    if places_of(template[0]) or not template[0]:
        raise ValueError("the program, argv's first element, is fixed: no parameter can be it")
    if "/" in template[0] and not template[0].startswith("/"):
        raise ValueError("the program is named by an absolute path, or found in the system's directories")
    if _names_shell(template) and any(places_of(element) for element in _read_by_shell(template)):
        raise ValueError(
            "a shell would read a parameter as code; give it as an argument: "
            '["sh", "-c", "echo \\"$1\\"", "sh", "{name}"]'
        )
    return {name for element in template for name in places_of(element)}


def _read_by_shell(template: Sequence[str]) -> Iterator[str]:
    """Yield what is, or says what is, a shell's script: behind `-c` further options, and what comes after them."""
    if _TAKE_ATTACHED.intersection(map(basename, template)):
        yield from filter(_SCRIPT_ATTACHED.match, template)
    options = False
    for before, element in pairwise(template):
        options = options or _SCRIPT_OPTION.fullmatch(before) is not None
        if options:
            yield element
            options = element.startswith(("-", "+")) or _OPTION_WITH_ARGUMENT.fullmatch(before) is not None


def _names_shell(template: Sequence[str]) -> bool:
    return any(basename(element) in _SHELLS for element in template)


def _left_out(element: str, texts: Mapping[str, str | None]) -> bool:
    return any(texts[name] is None for name in places_of(element))


def _element(element: str, texts: Mapping[str, str | None]) -> str:
    return _PART.sub(lambda part: part[0][0] if part[1] is None else texts[part[1]] or "", element)
