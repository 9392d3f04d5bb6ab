"""Files of the node, copied from and to it with the rights of a user."""
