"""The durable state of the control plane: tables, transactions, and one module of queries a resource."""
