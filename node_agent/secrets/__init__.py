"""Workspace secrets on a node: fetched sealed, held in memory, given to the commands that name them."""
