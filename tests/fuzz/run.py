"""Run one target under coverage-guided fuzzing: `python -m tests.fuzz.run TARGET [libFuzzer options]`.

It starts from the target's corpus in this directory and ends with status 0 if nothing was found; what breaks a target
is written to the current directory as `crash-…`. Options are libFuzzer's: `-runs=N`,
`-max_total_time=SECONDS`, `-seed=N`. What it learns is kept for the run only.
"""

import os
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["trunkline.channel", "certs.jose", "certs.encoding"]):
    from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
MAX_BYTES = 2048


def main() -> None:
    """Fuzz the target that the command line names."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python -m tests.fuzz.run {{{','.join(TARGETS)}}} [-runs=N] [-max_total_time=SECONDS]")
    name, options = sys.argv[1], sys.argv[2:]
    with tempfile.TemporaryDirectory() as learnt:
        status = _fuzz(name, [sys.argv[0], f"-max_len={MAX_BYTES}", *options, learnt, str(CORPUS / name)])
    sys.exit(status)


def _fuzz(name: str, arguments: list[str]) -> int:
    """Fuzz in a process of its own, since libFuzzer ends the one that it runs in; returns how that ended."""
    child = os.fork()
    if child == 0:
        atheris.Setup(arguments, TARGETS[name])
        atheris.Fuzz()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    main()
