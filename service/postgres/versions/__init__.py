"""Revisions of the schema, oldest first; each is written once and never changed."""
