"""What is to be done where the control plane's certificate is not trusted, by OpenSSL's word of why."""

from typing import Final

_NO_ROOT: Final = frozenset({18, 19, 20, 21})
"""Codes of a chain that leads to no root that is trusted (X509_V_ERR_*, `man 3 X509_STORE_CTX_get_error`)."""
_OTHER_NAME: Final = frozenset({62, 64})
"""Those of a certificate that has not the host's name, or address."""


def remedy(error: BaseException, *, roots: str, address: str) -> str:
    """Say what mends it, behind the reason, by the names of the settings for both; empty where that is not known."""
    code = getattr(error, "verify_code", 0)
    if code in _NO_ROOT:
        return f"; name the file of its roots ({roots})"
    if code in _OTHER_NAME:
        return f"; dial it by a name that is in its certificate ({address}), one of its own identity.dns_names"
    return ""
