"""Links: the agent's connections to the relays, kept up, handed over without a gap, and let go in order."""
