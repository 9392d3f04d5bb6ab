"""One migration a file, each with the revision it follows."""
