"""Bounds of time, memory, disk and processor, and what is done at each."""
