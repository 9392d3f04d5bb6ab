"""Trunkline: run commands on, watch, and reach machines that accept no inbound connection."""
