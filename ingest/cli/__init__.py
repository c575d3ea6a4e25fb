"""The command line of `python -m ingest`: arguments, what the commands do, what they print."""
