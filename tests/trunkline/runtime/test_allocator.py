import os
import subprocess
import sys

import pytest

# Eight reads' worth are taken, filled and freed at the top of the heap; what they cost is counted in page faults.
_READS = """
import resource, sys
from trunkline.runtime.allocator import keep_free_memory
if sys.argv[1] == "keep" and not keep_free_memory():
    sys.exit(3)

def turn():
    for _ in range(8):
        held.append(b"x" * 200_000)
    held.clear()

held = []
for _ in range(4):
    turn()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(64):
    turn()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _faults(how: str) -> int:
    answer = subprocess.run([sys.executable, "-c", _READS, how], capture_output=True, text=True, check=False)
    if answer.returncode == 3:
        pytest.skip("not glibc")
    assert answer.returncode == 0, answer.stderr
    return int(answer.stdout)


@pytest.mark.skipif(any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ), reason="tuned already")
def test_what_is_freed_is_taken_again_without_a_page_fault():
    assert _faults("keep") < 100 < _faults("leave")
