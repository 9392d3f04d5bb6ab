"""Attestation: evidence of each platform becomes a machine that is known beyond doubt, and policies decide about it."""
