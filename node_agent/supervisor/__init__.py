"""The supervisor: a process of its own for each command, which outlives the agent; of the standard library only."""
