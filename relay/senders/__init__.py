"""Senders: their connections and the streams of their links, whose turn it is there, and how each ends."""
