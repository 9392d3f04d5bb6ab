"""Initialisation: what a new node runs before it takes commands, once each, and what it says of that."""
