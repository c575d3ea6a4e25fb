"""What `python -m service` does on a terminal."""
