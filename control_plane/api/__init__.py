"""The REST API of the control plane: one module a resource, and what they share."""
