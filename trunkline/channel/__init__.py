"""The protocol: bytes to frames to streams to HTTP exchanges."""
