"""The tables, one class each, in a module for each subject."""
