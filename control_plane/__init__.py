"""The control plane: the daemon that knows workspaces, nodes and commands, and issues identities."""
