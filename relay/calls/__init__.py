"""Calls: one exchange between a sender and a node's stream, its content, its credit, and every way in which it ends."""
