"""The loader by which a node's shell turns its standard input into a program; see `trunkline.client.scripts`."""

from __future__ import annotations

from collections.abc import Sequence

SHELL = "/bin/sh"
# Its arguments: the size in bytes, the interpreter of a script that names none (or nothing), and the script's own.
LOADER = """\
trunkline_size=$1 trunkline_interpreter=$2 trunkline_umask=$(umask)
shift 2
umask 077
trunkline_directory=$(mktemp -d) || exit 126
trap 'rm -rf "$trunkline_directory"' EXIT
trap 'exit 143' HUP INT TERM
cat >"$trunkline_directory/script" || exit 126
if [ "$(wc -c <"$trunkline_directory/script")" -ne "$trunkline_size" ]; then
    echo "trunkline: the script did not arrive whole, and was not run" >&2
    exit 126
fi
chmod 0700 "$trunkline_directory/script" || exit 126
exec 9<"$trunkline_directory/script" </dev/null
rm -rf "$trunkline_directory"
trap - EXIT HUP INT TERM
umask "$trunkline_umask"
exec ${trunkline_interpreter:+"$trunkline_interpreter"} /proc/self/fd/9 "$@"
"""

# The same for a script that is given an input: it reads its own size, to the byte, and leaves what follows.
LOADER_WITH_INPUT = LOADER.replace(
    """cat >"$trunkline_directory/script" ||""",
    """dd ibs=1 obs=65536 count="$trunkline_size" of="$trunkline_directory/script" 2>/dev/null ||""",
).replace("</dev/null\n", "\n")


def script_words(argv: Sequence[str]) -> Sequence[str] | None:
    """The name and the arguments of a script, if it is one that an argument list runs."""
    return [argv[3], *argv[6:]] if len(argv) >= 6 and _loads(argv) else None


def _loads(argv: Sequence[str]) -> bool:
    return list(argv[:2]) == [SHELL, "-c"] and argv[2] in (LOADER, LOADER_WITH_INPUT)
