"""The process: what all three daemons share about being a daemon."""
