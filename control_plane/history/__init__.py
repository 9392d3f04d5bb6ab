"""What is written down of the lives of commands: their events, the audit of them, and what of them is measured."""
