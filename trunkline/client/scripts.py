"""Scripts: the text of a file of ours, run on a node as a program, with its own arguments and exit status.

The text travels as the command's standard input, so that no shell ever reads it as anything but a file, and its size
is checked, so that a part of it is never run. On the node a fixed loader puts it into a file of mode 0700 in a new
directory of mode 0700, opens it, removes both, and becomes it (`exec`): whatever happens afterwards, even SIGKILL,
nothing is left behind, and signals and the exit status are the script's own. It is run by its shebang, or by `sh`
where it has none, and finds its standard input empty, or what follows the script there. Its own name is
`/proc/self/fd/9`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trunkline.client.commands import CommandRequest
from trunkline.client.script_loader import LOADER, LOADER_WITH_INPUT, SHELL

LARGEST_SCRIPT_BYTES = 524_288


def script_request(
    content: bytes,
    name: str,
    arguments: Sequence[str] = (),
    *,
    stdin: bytes | None = None,
    stdin_stream: bool = False,
    **fields: Any,
) -> CommandRequest:
    """The request that runs a script.

    Args:
        content: the script, 512 KiB at most.
        name: as it is called in listings and in the loader's messages.
        arguments: the script's own.
        stdin: the script's own standard input.
        stdin_stream: whether that follows: then the script comes first in what is sent by `CommandApi.send_input`.
        fields: others of `CommandRequest`, but for `argv`.

    Raises:
        ValueError: the script is empty or too large, or no node has its interpreter.
    """
    check_shebang(content)
    if not 0 < len(content) <= LARGEST_SCRIPT_BYTES:
        raise ValueError(f"a script has 1 to {LARGEST_SCRIPT_BYTES} bytes, not {len(content)}")
    interpreter = "" if content.startswith((b"#!", b"\x7fELF")) else SHELL
    loader = LOADER if stdin is None and not stdin_stream else LOADER_WITH_INPUT
    argv = [SHELL, "-c", loader, name, str(len(content)), interpreter, *arguments]
    whole = None if stdin_stream else content + (stdin or b"")
    return CommandRequest(argv=argv, stdin=whole, stdin_stream=stdin_stream, **fields)


def check_shebang(content: bytes) -> None:
    """See that the interpreter that a script names is not one by the end of its line alone.

    Raises:
        ValueError: the line ends in CR LF, of which the CR belongs to the name for execve(2).
    """
    first, _, _ = content.partition(b"\n")
    if first.startswith(b"#!") and first.endswith(b"\r"):
        raise ValueError("the script's lines end in CR LF, so that no node finds its interpreter: end them in LF")
