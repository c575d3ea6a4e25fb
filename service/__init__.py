"""The conversation: HTTP, the page, and the one conductor that retrieves, generates, cites or refuses.

`service` is the only wing that knows both `ingest` and `model`.
"""
