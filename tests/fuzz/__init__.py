"""Fuzzing: targets, the corpora that they start from, and what runs them."""
