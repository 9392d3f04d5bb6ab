"""How a program's code is loaded: most of what a short command costs, and of what a daemon does until it serves.

Two things took a fifth of that time, and were of no use to anybody. The collector of cycles looks at what is loaded
again and again while there is more of it, and finds that nearly all of it stays. And aiohttp reads every certificate
authority of the machine twice when it is imported, for contexts that nothing here uses: those come from `certs.tls`.
"""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_AUTHORITIES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR")
"""Where OpenSSL is told to find the machine's authorities, instead of where it was built to."""


@contextmanager
def loading() -> Iterator[None]:
    """Import within the block; it has to be in the first thread, and the only one.

    The collector takes all that is there at its end for old, as if it had been looked at and found in use.
    Contexts for TLS that a library makes meanwhile for itself trust nobody, so that a connection which is made with one
    of them by mistake fails. The environment is afterwards as it was.
    """
    collecting = gc.isenabled()
    environment = {name: os.environ.get(name) for name in _AUTHORITIES}
    gc.disable()
    os.environ.update(dict.fromkeys(_AUTHORITIES, os.devnull))
    try:
        yield
    finally:
        for name, value in environment.items():
            _restore(name, value)
        gc.freeze()
        gc.unfreeze()  # into the oldest generation
        if collecting:
            gc.enable()


def leave_the_rest() -> None:
    """Have the end of the process not look for cycles in all that was loaded; call it last."""
    gc.freeze()


def _restore(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value
