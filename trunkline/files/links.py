"""Symbolic links in a tree that is copied: made again only where they can lead nowhere but into that tree.

The rule looks at the text of the target alone: relative, and `..` at its beginning only, no more often than the link is
deep. A link's own directory is a real one, since nothing is written through links, so `..` leads up inside the tree;
and names after that lead down, into the tree or to links for which the same holds. A `..` behind a name could lead up
from where a link leads, and so is not allowed.
"""

import contextlib
import os

from trunkline.files import beneath
from trunkline.files.names import MOST_PATH_BYTES, partial_name


def stays_inside(depth: int, target: str) -> bool:
    """Whether a link in a directory `depth` below the tree's own can lead nowhere but into the tree."""
    if not target or target.startswith("/") or "\0" in target or len(os.fsencode(target)) > MOST_PATH_BYTES:
        return False
    parts = [part for part in target.split("/") if part not in ("", ".")]
    names = list(parts)
    while names and names[0] == "..":
        names.pop(0)
    return ".." not in names and len(parts) - len(names) <= depth


def make_link(name: str, within: int, target: str) -> None:
    """Make a link in a directory; a file or link of that name is replaced.

    Raises:
        OSError: it cannot be made there, or a directory has the name.
    """
    with contextlib.suppress(OSError):
        if os.readlink(name, dir_fd=within) == target:
            return
    partial = partial_name(name)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(partial, dir_fd=within)
    os.symlink(target, partial, dir_fd=within)
    try:
        os.rename(partial, name, src_dir_fd=within, dst_dir_fd=within)
    except OSError:
        os.unlink(partial, dir_fd=within)
        raise
    beneath.sync_directory(within)
