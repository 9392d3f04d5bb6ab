"""Admission: who may call, attach and ask how much, decided as grants and refusals."""
