"""A relay of several worker processes under one parent; see docs/adr/0014-workers.md."""
