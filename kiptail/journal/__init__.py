"""Trusted entries of the journal, by cursor."""
