"""Key files: written atomically with mode 0600, refused when anybody else can read them.

What root has put there for this process, by a group of the process's own, is taken too (0640 and 0440): so systemd's
credentials, Kubernetes' volumes of secrets and Debian's private keys are handed out, and only root can have done it.

A secret is written to a new file in the same directory, fsynced, renamed over the old one, and the directory is
fsynced: after a crash there is the old content or the new, never a mixture, and never a moment of loose permissions.
"""

import errno
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from certs.errors import KeyFileError

MAX_FILE_BYTES = 8 * 1024 * 1024
"""Longest file this module reads: a trust document with very many revocations still fits."""

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
"""The private keys this project signs with: P-256 (certificates, tokens) and Ed25519 (tokens)."""


def write_secret(path: Path, content: bytes) -> None:
    """Replace `path` by `content`, mode 0600, atomically and durably.

    Raises:
        KeyFileError: the file system refuses (full, read-only, no permission); the old content is untouched.
    """
    _write_atomic(path, content, 0o600)


def write_public(path: Path, content: bytes) -> None:
    """The same for what anybody may read (certificates): mode 0644.

    Raises:
        KeyFileError: as `write_secret`.
    """
    _write_atomic(path, content, 0o644)


def read_public(path: Path) -> bytes:
    """The content of a file that anybody may read (certificates). Links are followed.

    Raises:
        KeyFileError: missing, unreadable, not a regular file, or too large.
    """
    return _read(path, _refuse_other_kinds)


def read_secret(path: Path) -> bytes:
    """The content of a file that only its owner, who must be this user or root, can read or write.

    A file of root's may be readable by a group of this process's, too. Links are followed.

    Raises:
        KeyFileError: missing, unreadable, not a regular file, too large, of another owner, or with other permissions.
    """
    return _read(path, _refuse_loose)


def generate_key() -> ec.EllipticCurvePrivateKey:
    """A new P-256 private key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_to_pem(key: PrivateKey) -> bytes:
    """The key as unencrypted PKCS#8 PEM; for `write_secret` only."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def key_from_pem(pem: bytes, source: str = "the key") -> PrivateKey:
    """The P-256 or Ed25519 private key in `pem`.

    Raises:
        KeyFileError: no key, an encrypted key, or a key of another kind; `source` names it in the message.
    """
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        msg = f"{source} is not an unencrypted PEM private key"
        raise KeyFileError(msg) from error
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key
    msg = f"{source} is neither a P-256 nor an Ed25519 key"
    raise KeyFileError(msg)


def write_key(path: Path, key: PrivateKey) -> None:
    """Store `key` at `path` (PKCS#8 PEM, 0600, atomic).

    Raises:
        KeyFileError: as `write_secret`.
    """
    write_secret(path, key_to_pem(key))


def load_key(path: Path) -> PrivateKey:
    """The private key stored at `path`.

    Raises:
        KeyFileError: as `read_secret` and `key_from_pem`.
    """
    return key_from_pem(read_secret(path), str(path))


def load_or_create_key(path: Path) -> PrivateKey:
    """The private key stored at `path`; a new P-256 key, stored there first, if there is no such file.

    Raises:
        KeyFileError: as `load_key` and `write_key`.
    """
    if not path.exists():
        write_key(path, generate_key())
    return load_key(path)


def _read(path: Path, check: Callable[[Path, os.stat_result], None]) -> bytes:
    """The content of a file that has passed the check, opened so that a FIFO is not waited for."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            check(path, os.fstat(descriptor))
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                content = file.read(MAX_FILE_BYTES + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise KeyFileError(_cannot("read", path, error)) from error
    if len(content) > MAX_FILE_BYTES:
        msg = f"{path} is larger than {MAX_FILE_BYTES} bytes"
        raise KeyFileError(msg)
    return content


def _refuse_other_kinds(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        msg = f"{path} is not a regular file"
        raise KeyFileError(msg)


def _refuse_loose(path: Path, status: os.stat_result) -> None:
    _refuse_other_kinds(path, status)
    if status.st_mode & (0o037 if _given_by_root(status) else 0o077):
        msg = (
            f"{path} can be read or written by others: chmod 600 it (where root owns it and its group is one of this "
            "process's, 640 will do), and replace the secret if it was exposed"
        )
        raise KeyFileError(msg)
    if status.st_uid not in {os.geteuid(), 0}:
        msg = f"{path} belongs to another user: chown it to the user that runs this process"
        raise KeyFileError(msg)


def _given_by_root(status: os.stat_result) -> bool:
    """Whether root hands the file to a group that this process is in."""
    return status.st_uid == 0 and status.st_gid in {os.getegid(), *os.getgroups()}


def _write_atomic(path: Path, content: bytes, mode: int) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        try:
            _write_new(temporary, content, mode)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_directory(path.parent)
    except OSError as error:
        raise KeyFileError(_cannot("write", path, error)) from error


def _write_new(path: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_directory(directory: Path) -> None:
    """Make what was created, renamed or removed in `directory` durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _cannot(verb: str, path: Path, error: OSError) -> str:
    if error.errno == errno.ENXIO:  # what opening a socket ends with
        return f"{path} is not a regular file"
    return f"cannot {verb} {path}: {error.strerror or error}"
