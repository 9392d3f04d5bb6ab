"""The few OpenSSL settings that Python's `ssl` module has no name for, reached through its own libssl.

* the session cache off: without tickets a TLS 1.2 server still resumes sessions by id from a cache of 20,480, which
  would let a client past a trust root that was removed, and hold the memory;
* the groups of the key exchange (Python 3.15 has `set_groups`);
* a step in front of the verification of a peer (`certs.pins`);
* the trust store replaced in place: `ssl` can add a root to a context but never take one away, and its
  `sni_callback` cannot be used with transports that make their own SSL objects (aiofastnet crashes in it).

The address of the `SSL_CTX` is the first member of CPython's context object in every version since 3.2, which
aiofastnet relies on too; it is checked against the options that `ssl` reports before anything is written. Where
libssl cannot be reached (an interpreter linked statically, another Python), `reach` gives None and `certs.tls` keeps
the same promises in a narrower way.
"""

import _ssl
import ctypes
import ssl
import sys
from typing import Final

_SET_SESSION_CACHE_MODE: Final = 44
_GET_SESSION_CACHE_MODE: Final = 45
_SET_GROUPS_LIST: Final = 92
_CACHE_OFF: Final = 0
_OPTION_BITS: Final = 0xFFFFFFFF

TlsContext = ssl.SSLContext
"""The type of TLS contexts, for annotations."""


class OpenSsl:
    """The functions of the libssl that Python's `ssl` module is linked with."""

    def __init__(self, functions: ctypes.CDLL) -> None:
        self._control = functions.SSL_CTX_ctrl
        self._control.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p]
        self._control.restype = ctypes.c_long
        self._get_store = functions.SSL_CTX_get_cert_store
        self._get_store.argtypes = [ctypes.c_void_p]
        self._get_store.restype = ctypes.c_void_p
        self._set_store = functions.SSL_CTX_set1_cert_store
        self._set_store.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        self._set_store.restype = None

    def turn_session_cache_off(self, context: TlsContext) -> bool:
        """Make `context` keep and resume no sessions; whether that worked."""
        address = context_address(context)
        self._control(address, _SET_SESSION_CACHE_MODE, _CACHE_OFF, None)
        return bool(self._control(address, _GET_SESSION_CACHE_MODE, 0, None) == _CACHE_OFF)

    def set_groups(self, context: TlsContext, groups: str) -> bool:
        """Offer and accept these groups (colon-separated, best first); whether OpenSSL knows them."""
        return bool(self._control(context_address(context), _SET_GROUPS_LIST, 0, groups.encode("ascii")) == 1)

    def replace_trust_store(self, context: TlsContext, source: TlsContext) -> None:
        """Make `context` trust the roots that `source` trusts, and no others, from the next handshake on."""
        self._set_store(context_address(context), self._get_store(context_address(source)))


def reach(context: TlsContext) -> OpenSsl | None:
    """The settings of the libssl behind `context`; None if it cannot be reached."""
    functions = library(context)
    return None if functions is None else OpenSsl(functions)


def library(context: TlsContext) -> ctypes.CDLL | None:
    """The libssl and libcrypto that Python's `ssl` module is linked with; None if they cannot be reached.

    `context` is what the agreement is tried on. Each call gives an object of its own, so that nobody's declarations
    of C types are anybody else's.
    """
    path = getattr(_ssl, "__file__", None)
    if path is None or sys.implementation.name != "cpython":
        return None
    try:
        functions = ctypes.CDLL(path)
        functions.SSL_CTX_get_options.argtypes = [ctypes.c_void_p]
        functions.SSL_CTX_get_options.restype = ctypes.c_uint64
    except (OSError, AttributeError):
        return None
    seen = functions.SSL_CTX_get_options(context_address(context))
    return functions if seen & _OPTION_BITS == context.options & _OPTION_BITS else None


def context_address(context: TlsContext) -> int | None:
    """Where the `SSL_CTX` of `context` is."""
    return ctypes.c_void_p.from_address(id(context) + object.__basicsize__).value
