"""The drain: the graceful end, what it still waits for, and the command that asks for it."""
