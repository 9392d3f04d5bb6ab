"""A relay of several worker processes under one parent; see docs/adr/0013-workers.md."""
