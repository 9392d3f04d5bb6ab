"""The doors: heads that are read, understood, remembered, and written anew in one canonical form."""
