"""The command line, in processes that are forked from one that has loaded it.

To load its code costs a command of the command line five times what it then does, and end-to-end tests run hundreds.
Each is a process all the same, with its own arguments, environment, directory and standard streams, and it ends as any
other does. What is loaded late, and how the command starts from nothing, is seen where a test starts it by its name.

The process that has loaded it gets one message for each command, on a socket that it has as standard input: as JSON the
arguments, the environment and the directory; beside it four descriptors, the three standard streams and the one where
the number of the process is written, and how it ended. It goes when the test process does.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[2]
LONGEST_MESSAGE = 1 << 20


def run_trunkline(
    arguments: Sequence[str],
    *,
    stdin: bytes | None = None,
    timeout: float,
    directory: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run the command line to its end, as `subprocess.run` does, and return what it printed.

    Raises:
        subprocess.TimeoutExpired: it did not end within `timeout` seconds, and was killed.
    """
    with contextlib.ExitStack() as ours:
        theirs: list[int] = []
        pipes: list[IO[bytes]] = []
        for mode in ("wb", "rb", "rb", "rb"):
            reading, writing = os.pipe()
            theirs.append(reading if mode == "wb" else writing)
            pipes.append(ours.enter_context(os.fdopen(writing if mode == "wb" else reading, mode)))
        if stdin is None:
            os.close(theirs[0])
            theirs[0] = os.open(os.devnull, os.O_RDONLY)
        try:
            _start(arguments, directory or Path.cwd(), os.environ if environment is None else environment, theirs)
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        return _finish(list(arguments), pipes, stdin or b"", timeout)


def _finish(
    arguments: list[str], pipes: list[IO[bytes]], stdin: bytes, timeout: float
) -> subprocess.CompletedProcess[bytes]:
    to_stdin, from_stdout, from_stderr, ending = pipes
    pid = int(ending.readline())
    read: dict[IO[bytes], bytes] = {}
    pumps = [threading.Thread(target=_write, args=(to_stdin, stdin))]
    pumps += [threading.Thread(target=lambda one=one: read.update({one: one.read()})) for one in pipes[1:]]
    for pump in pumps:
        pump.start()
    pumps[-1].join(timeout)
    expired = pumps[-1].is_alive()
    if expired:
        os.kill(pid, signal.SIGKILL)
    for pump in pumps:
        pump.join()
    if expired:
        raise subprocess.TimeoutExpired(arguments, timeout, read[from_stdout], read[from_stderr])
    return subprocess.CompletedProcess(arguments, int(read[ending]), read[from_stdout], read[from_stderr])


def _write(pipe: IO[bytes], content: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):
        pipe.write(content)
    with contextlib.suppress(BrokenPipeError):
        pipe.close()


def _start(arguments: Sequence[str], directory: Path, environment: Mapping[str, str], descriptors: list[int]) -> None:
    message = {"arguments": list(arguments), "directory": str(directory), "environment": dict(environment)}
    socket.send_fds(_loaded(), [json.dumps(message).encode()], descriptors)


@functools.cache
def _loaded() -> socket.socket:
    """The socket of this test process's own process that has loaded the command line."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        command = [sys.executable, "-m", "tests.support.forked_commands"]
        process = subprocess.Popen(command, cwd=ROOT, stdin=theirs.fileno(), stdout=subprocess.DEVNULL)
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours


def _load() -> None:
    from trunkline.cli import main
    from trunkline.runtime.loading import loading

    with loading():
        for place, _ in main._COMMANDS.values():
            importlib.import_module(place.partition(":")[0])
    gc.freeze()  # else each process that looks for cycles copies all that is there


def _serve(requests: socket.socket) -> dict[str, Any] | None:
    """Fork for each request; returns it in the process that is to do it, and None when there is none any more."""
    while True:
        message, ancillary, _, _ = requests.recvmsg(LONGEST_MESSAGE, socket.CMSG_SPACE(4 * array.array("i").itemsize))
        if not message:
            return None
        descriptors = array.array("i")
        for _, _, content in ancillary:
            descriptors.frombytes(content)
        if os.fork() == 0:
            requests.close()
            if _become_command(descriptors):
                return dict(json.loads(message))
            os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)


def _become_command(descriptors: Sequence[int]) -> bool:
    """True in the process of the command; False in the one that has waited for it, and told how it ended."""
    *streams, ending = descriptors
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.fork()
    if child == 0:
        os.close(ending)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        return True
    for number, stream in enumerate(streams):
        os.close(stream)
        os.close(number)
    os.write(ending, b"%d\n" % child)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.write(ending, b"%d" % status)
    return False


def _do(request: dict[str, Any]) -> int:
    from trunkline.cli.main import main

    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = ["trunkline", *request["arguments"]]
    return main()


def _main() -> int:
    _load()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks for those that have told how it ended
    requests = socket.socket(fileno=os.dup(0))
    request = _serve(requests)
    return 0 if request is None else _do(request)


if __name__ == "__main__":
    sys.exit(_main())
