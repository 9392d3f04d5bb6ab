"""The relay's own identity: got, renewed, succeeded, and presented to those who dial."""
