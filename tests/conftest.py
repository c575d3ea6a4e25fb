"""Settings of the whole suite, made before anything imports torch."""

import os

os.environ.setdefault(
    "GOMP_SPINCOUNT", "2000"
)  # as the commands set it: threads that wait give their core away
