"""Workspace secrets: kept sealed, granted to nodes by scope, handed to nodes sealed to their keys."""
