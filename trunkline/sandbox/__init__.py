"""The sandbox: a whole installation on one machine, for development only."""
