"""How the agent is put together: by hand, in the order in which its parts depend on each other."""
