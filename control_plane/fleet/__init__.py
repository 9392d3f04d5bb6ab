"""The control plane as a sender: reaching nodes through the relay, commands, and the health monitor."""
