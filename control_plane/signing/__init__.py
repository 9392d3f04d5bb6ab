"""Signing: which key signs now, which are trusted, and the table of legal phases between them."""
