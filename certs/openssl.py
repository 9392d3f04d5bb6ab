"""The few OpenSSL settings that Python's `ssl` module has no name for, reached through its own libssl.

* the session cache off: without tickets a TLS 1.2 server still resumes sessions by id from a cache of 20,480, which
  would let a client past a trust root that was removed, and hold the memory;
* the groups of the key exchange (Python 3.15 has `set_groups`);
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

TlsContext = ssl.SSLContext
"""The type of TLS contexts, for annotations."""


class OpenSsl:
    """The functions of the libssl that Python's `ssl` module is linked with."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._control = library.SSL_CTX_ctrl
        self._control.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p]
        self._control.restype = ctypes.c_long
        self._options = library.SSL_CTX_get_options
        self._options.argtypes = [ctypes.c_void_p]
        self._options.restype = ctypes.c_uint64
        self._get_store = library.SSL_CTX_get_cert_store
        self._get_store.argtypes = [ctypes.c_void_p]
        self._get_store.restype = ctypes.c_void_p
        self._set_store = library.SSL_CTX_set1_cert_store
        self._set_store.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        self._set_store.restype = None

    def turn_session_cache_off(self, context: TlsContext) -> bool:
        """Make `context` keep and resume no sessions; whether that worked."""
        address = self._address(context)
        self._control(address, _SET_SESSION_CACHE_MODE, _CACHE_OFF, None)
        return bool(self._control(address, _GET_SESSION_CACHE_MODE, 0, None) == _CACHE_OFF)

    def set_groups(self, context: TlsContext, groups: str) -> bool:
        """Offer and accept these groups (colon-separated, best first); whether OpenSSL knows them."""
        return bool(self._control(self._address(context), _SET_GROUPS_LIST, 0, groups.encode("ascii")) == 1)

    def replace_trust_store(self, context: TlsContext, source: TlsContext) -> None:
        """Make `context` trust the roots that `source` trusts, and no others, from the next handshake on."""
        self._set_store(self._address(context), self._get_store(self._address(source)))

    def agrees(self, context: TlsContext) -> bool:
        """Whether the address found for `context` is plausible: both ways of reading its options agree."""
        return bool(self._options(self._address(context)) & 0xFFFFFFFF == context.options & 0xFFFFFFFF)

    @staticmethod
    def _address(context: TlsContext) -> int | None:
        return ctypes.c_void_p.from_address(id(context) + object.__basicsize__).value


def reach(context: TlsContext) -> OpenSsl | None:
    """The libssl behind Python's `ssl` module, tried on `context`; None if it cannot be reached."""
    path = getattr(_ssl, "__file__", None)
    if path is None or sys.implementation.name != "cpython":
        return None
    try:
        library = OpenSsl(ctypes.CDLL(path))
    except (OSError, AttributeError):
        return None
    return library if library.agrees(context) else None
