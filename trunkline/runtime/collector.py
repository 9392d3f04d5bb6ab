"""Python's collector of cycles, told to leave alone what a daemon has loaded before it begins to serve.

That is some seventy thousand objects, which live as long as the process. The collector looks at all that it knows each
time that what has come to stay has grown by a quarter, and nothing else happens meanwhile: 20 to 70 ms, several times
in a second where a peer opens and drops thousands of streams.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def program_set_aside() -> Iterator[None]:
    """Have the collector look at nothing, while the block lasts, that was there before it.

    Not even once: one object in a hundred that a start leaves is garbage, and looking for it took 7 % of the start.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
