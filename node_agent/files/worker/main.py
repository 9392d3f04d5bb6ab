"""The file worker: becomes the user that it is told, and then does what the agent asks, one thing after the other.

It is started with the rights of the agent, isolated and without site-packages, opens nothing before it has become the
user, and can never go back. From then on whether something may be read or written is the kernel's business. What is
wrong with a request ends the request; what is wrong with the conversation ends the worker, and so does its agent's end.
"""

import contextlib
import ctypes
import os
import resource
import socket
import sys
from collections.abc import Callable

from node_agent.files.worker import reading, writing
from node_agent.files.worker.conversation import AgentGone, Conversation
from node_agent.files.worker.failures import EXPECTED, failure_document
from node_agent.files.worker.frames import Document
from node_agent.supervisor.kernel import die_with, hide_memory, leave_keyring

MOST_DESCRIPTORS = 1024
_PR_SET_NO_NEW_PRIVS = 38
_OPERATIONS: dict[str, Callable[[Document, Conversation], Document]] = {
    "look": reading.look,
    "tree": reading.tree,
    "digest": reading.digest,
    "read": reading.read,
    "target": writing.target,
    "write": writing.write,
    "make_directory": writing.make_directory,
    "make_link": writing.make_link,
}


def main() -> None:
    """Be a worker; the socket to the agent is the descriptor in the first argument."""
    descriptor = int(sys.argv[1])
    # What whoever started the agent had open is in /proc/self/fd, which is a path as any other.
    os.closerange(descriptor + 1, os.sysconf("SC_OPEN_MAX"))
    agent = Conversation(socket.socket(fileno=descriptor))
    with contextlib.suppress(AgentGone):
        try:
            become(agent.request())
        except OSError as error:
            agent.say(failure_document(error))
            return
        agent.say({"ready": True})
        while True:
            serve(agent.request(), agent)


def become(user: Document) -> None:
    """Give up everything but the rights of the user.

    Raises:
        OSError: the kernel refuses.
    """
    parent = os.getppid()
    os.chdir("/")
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(MOST_DESCRIPTORS, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if os.getpriority(os.PRIO_PROCESS, 0) < 0:
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    leave_keyring()
    if user["switched"]:
        os.setgroups(user["groups"])
        os.setresgid(user["gid"], user["gid"], user["gid"])
        os.setresuid(user["uid"], user["uid"], user["uid"])
    hide_memory()
    ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), 0, 0, 0)
    die_with(parent)


def serve(request: Document, agent: Conversation) -> None:
    """Do one thing, and say how it ended."""
    if "do" not in request:
        return  # the end of a content whose taking in has failed
    try:
        answer = _OPERATIONS[request["do"]](request, agent)
    except EXPECTED as error:
        answer = failure_document(error)
    agent.say({"done": True, **answer})
