"""Commands: processes that the agent runs for others, what is recorded of them, and what they wrote."""
