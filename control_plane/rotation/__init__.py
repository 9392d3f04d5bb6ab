"""Rotation: steps from one signer to the next, each behind a gate of adoption."""
