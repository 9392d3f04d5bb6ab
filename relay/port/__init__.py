"""The port: from a socket that is accepted to a connection with TLS, within bounds that no flood of arrivals passes."""
