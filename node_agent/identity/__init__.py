"""Identity: how a machine becomes a node, what it keeps of that, and how it stays one."""
