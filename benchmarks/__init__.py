"""One script a claim. Each runs us and the peer in turn, in one run, and prints the ratio with its spread.

`python -m benchmarks` runs them all; `python -m benchmarks.NAME --help` one of them. They take the models from the data
folder in use (`LOREBASE_HOME`). What they printed last, with date and machine, stands in `results.md`.
"""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # before torch is imported; as the commands set it
