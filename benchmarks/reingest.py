"""What a second ingest of an unchanged folder costs, through the command line that people use.

    python -m benchmarks.reingest [--files 1000]
    python -m benchmarks.reingest --files 10000 --without-model

Claims: no file is parsed and no passage is embedded; 10,000 files take less than 5 seconds. Exits with 1 where one is
missed. `--without-model` makes the first ingest quick: parser, cut and store are the real ones, the vectors are all
alike. The second one, which is measured, is the same command either way, and looks at no vector.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ingest.collections import open_collection
from ingest.embed import Embedder, find_embedder
from ingest.pipeline import ingest_path
from ingest.settings import IngestSettings, find_home

LIMIT_FILES, LIMIT_S = 10_000, 5.0


class Alike:
    """The real embedder, but for its weights: every text gets the same vector."""

    def __init__(self, real: Embedder) -> None:
        self._real = real
        self.id, self.name, self.dimension, self.max_tokens = (
            real.id,
            real.name,
            real.dimension,
            real.max_tokens,
        )
        self.count_tokens = real.count_tokens

    def encode_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, d), unit length."""
        return np.full((len(texts), self.dimension), self.dimension**-0.5, np.float32)

    encode_queries = encode_passages


def ingest_without_model(folder: Path, home: Path) -> tuple[dict[str, object], float]:
    """The first ingest, as the command does it, without weights."""
    start = time.perf_counter()
    settings = IngestSettings()
    embedder = Alike(find_embedder(settings.embedder, home))
    with open_collection(home, settings.collection, create=True) as store:
        report = ingest_path([folder], store, embedder, settings)
    return {"parsed": report.parsed, "embedded": report.embedded}, time.perf_counter() - start


def ingest(folder: Path, home: Path) -> tuple[dict[str, object], float]:
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "ingest", str(folder), "--json"],
        env=os.environ | {"LOREBASE_HOME": str(home)},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1]), time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--without-model", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        home, folder = Path(scratch, "home"), Path(scratch, "notes")
        folder.mkdir()
        home.mkdir()
        (home / "models").symlink_to(find_home() / "models")
        for i in range(args.files):
            (folder / f"note{i:05}.md").write_text(
                f"# Note {i}\n\nThe code of shelf {i} is {i * 7919 % 100003}.\n", encoding="utf-8"
            )
        time.sleep(
            2.1
        )  # a file younger than two seconds is hashed again at the next run, whatever its time says
        first, first_s = (ingest_without_model if args.without_model else ingest)(folder, home)
        before = os.times()
        again = sorted((ingest(folder, home) for _ in range(3)), key=lambda run: run[1])
        after = os.times()
    second, second_s = again[1]
    cpu_s = sum(after[2:4]) - sum(before[2:4])  # of children that ended
    print(f"first:  {first_s:6.1f} s  {json.dumps(first)}")
    print(
        f"second: {second_s:6.1f} s ({again[0][1]:.1f} to {again[2][1]:.1f}; CPU {cpu_s / 3:.1f} s)  {json.dumps(second)}"
    )
    if any(report["parsed"] or report["embedded"] for report, _ in again):
        sys.exit("an unchanged file was parsed or embedded")
    if args.files <= LIMIT_FILES and second_s > LIMIT_S:
        sys.exit(f"missed: {second_s:.1f} s, wanted {LIMIT_S:g} s for {LIMIT_FILES:,} files")
    print(
        f"an unchanged ingest of {args.files} files: 0 parsed, 0 embedded, {first_s / second_s:.0f} times as fast as the first"
    )


if __name__ == "__main__":
    main()
