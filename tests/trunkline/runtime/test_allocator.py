import os
import subprocess
import sys

import pytest

tuned = pytest.mark.skipif(
    any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ), reason="tuned already"
)

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

# Of 100,000 pieces that come to 80 MB a few are kept, at the top of the heap among them, as connections would be.
_PEAK = """
import sys
from trunkline.runtime.allocator import give_back, keep_free_memory

def resident_bytes():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096

if not keep_free_memory():
    sys.exit(3)
pieces = [bytes(800) for _ in range(100_000)]
peak = resident_bytes()
del pieces[:-1]
if sys.argv[1] == "give back":
    give_back()
assert pieces == [bytes(800)]
print(peak - resident_bytes())
"""


def _said(program: str, how: str) -> int:
    answer = subprocess.run([sys.executable, "-c", program, how], capture_output=True, text=True, check=False)
    if answer.returncode == 3:
        pytest.skip("not glibc")
    assert answer.returncode == 0, answer.stderr
    return int(answer.stdout)


@tuned
def test_what_is_freed_is_taken_again_without_a_page_fault():
    assert _said(_READS, "keep") < 100 < _said(_READS, "leave")


@tuned
def test_what_a_peak_has_left_free_is_given_back_to_the_system():
    assert _said(_PEAK, "leave") < 10_000_000 < 50_000_000 < _said(_PEAK, "give back")
