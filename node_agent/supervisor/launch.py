"""How an agent starts a supervisor, and what the supervisor's exit status says."""

import os
import socket
import sys
from enum import IntEnum

import node_agent

# Nothing that is secret is in arguments, environment or files: the plan comes through the socket.
PROGRAM = "import sys; sys.path.append(sys.argv[1]); from node_agent.supervisor.main import main; main(*sys.argv[2:])"


class ExitStatus(IntEnum):
    """Why a supervisor has gone; `UNCAUGHT` is Python's, where the program is missing or not of the agent's release."""

    ENDED = 0
    UNCAUGHT = 1
    NO_PLAN = 3
    NOT_OURS = 4
    NOT_STARTED = 5
    NOT_RECORDED = 6


SOCKET_DESCRIPTOR = 3


def spawn(directory: str, theirs: socket.socket) -> int:
    """Start the supervisor of the command in `directory`; return its process, a child of this one.

    Isolated and without site-packages, it is fast to start, and nothing that is installed beside it is imported.

    Args:
        directory: the command's.
        theirs: the end of the socket through which the plan comes.

    Raises:
        OSError: no process can be made.
    """
    nothing = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
    given = (os.POSIX_SPAWN_DUP2, theirs.fileno(), SOCKET_DESCRIPTOR)
    return os.posix_spawn(sys.executable, _arguments(directory), {}, file_actions=[*nothing, given])


def _arguments(directory: str) -> list[str]:
    packages = os.path.dirname(os.path.dirname(os.path.abspath(node_agent.__file__)))
    return [sys.executable, "-I", "-S", "-X", "utf8", "-c", PROGRAM, packages, directory, str(SOCKET_DESCRIPTOR)]
