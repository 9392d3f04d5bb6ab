"""Ids of keys on the command line: they are base64url, so that one in 64 begins with a dash, as options do."""

from __future__ import annotations

import re

import click

# The SHA-256 of a key (RFC 7638) in base64url; no option has such a name.
_KEY_ID = re.compile(r"-[A-Za-z0-9_-]{42}")


class TakesKeyId(click.Command):
    """A command that takes what looks like the id of a key for one, also where it begins with a dash."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments with such ids put last, behind the dashes that end the options."""
        ids = [argument for argument in args if _KEY_ID.fullmatch(argument)]
        if ids and "--" not in args:
            args = [argument for argument in args if argument not in ids] + ["--", *ids]
        return super().parse_args(ctx, args)
