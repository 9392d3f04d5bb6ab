"""The relay: the daemon that joins senders to listeners."""
