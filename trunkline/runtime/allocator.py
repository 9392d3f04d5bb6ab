"""The C library's allocator, told to keep the memory that bulk transfers free and take again all the time.

glibc gives the top of its heap back to the kernel as soon as a few hundred KiB of it are free, and takes it again with
the next read; each time the kernel has to clear every page once more. That was a sixth of what a download cost a relay.
"""

import ctypes
from typing import Final

KEEP_BYTES: Final = 4 * 1024 * 1024
"""So much may lie free at the top of the heap: as much as one stream at its full window frees and takes."""
OWN_MAPPING_BYTES: Final = 1024 * 1024
"""Below this nothing gets a mapping of its own; aiofastnet's transports read into 256 KiB at a time."""
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3


def keep_free_memory() -> bool:
    """Keep `KEEP_BYTES` of free memory in the process; whether there is an allocator that can be told so (glibc)."""
    tell = getattr(ctypes.CDLL(None), "mallopt", None)
    if tell is None:
        return False
    # Setting one of the two stops glibc from finding either by itself.
    return bool(tell(_TRIM_THRESHOLD, KEEP_BYTES)) and bool(tell(_MMAP_THRESHOLD, OWN_MAPPING_BYTES))
