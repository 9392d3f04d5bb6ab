"""The initialisation of nodes: what a new node is handed to run, what it says of it, and being asked to do it again."""
