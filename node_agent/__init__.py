"""The node agent: the daemon on a machine that accepts no inbound connection."""
