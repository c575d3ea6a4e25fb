"""Thin handlers: read the request, hand it to a part, shape the reply. No `try`, no SQL, no models."""
