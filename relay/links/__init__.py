"""Links: which listener speaks for which node, what it is told, and what it asks of the relay itself."""
