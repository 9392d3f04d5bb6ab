"""Shells: programs on a terminal or on pipes, held by a stream that may be cut and resumed."""
