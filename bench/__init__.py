"""Measures the relay's data path against nginx on this machine; `python -m bench` runs it, README.md explains it."""
