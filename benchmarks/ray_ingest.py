"""Two Ray workers against one, ingesting the same folder, net of start-up.

    python -m benchmarks.ray_ingest [--folder docs] [--embedder all-minilm-l6-v2] [--rounds 3]

Claim: two workers are at least 1.5 times as fast as one on a machine with two idle cores. Each side starts
its own cluster and its workers embed a text each before the clock runs; then it ingests the folder into a new
collection. The sides take turns. Both have one core a worker; this process, which writes, uses the rest.
Needs the extra `ray` and the embedder (`python -m model pull all-minilm-l6-v2`).
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks.measure import Rate, ratio
from ingest.collections import open_collection
from ingest.embed.finding import embedder_named
from ingest.pipeline import ingest_path
from ingest.pipeline.crew import Crew
from ingest.settings import IngestSettings, find_home


def once(workers: int, folder: Path, name: str, home: Path) -> tuple[float, int]:
    """Seconds and passages of one ingest by so many warm workers."""
    settings = IngestSettings(workers=workers)  # type: ignore[call-arg]
    make = partial(embedder_named, name, home, settings)
    embedder = make()
    with tempfile.TemporaryDirectory() as place, Crew(make, workers=workers) as crew:
        crew.start(embedder.id)
        while crew.awake < workers:
            crew.wait(crew.embed(["warm"]))
        for job in [crew.embed([f"warm {n}"]) for n in range(8 * workers)]:
            while not crew.wait(job):
                pass
        with open_collection(Path(place, ".lorebase"), "bench", True) as store:
            begin = time.perf_counter()
            report = ingest_path([folder], store, embedder, settings, base=folder.parent, crew=crew)
            return time.perf_counter() - begin, report.embedded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("docs"))
    parser.add_argument("--embedder", default="all-minilm-l6-v2")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    folder, home = options.folder.resolve(), find_home()
    rates: dict[int, list[float]] = {1: [], 2: []}
    for number in range(options.rounds):
        for workers in (1, 2) if number % 2 == 0 else (2, 1):
            seconds, passages = once(workers, folder, options.embedder, home)
            rates[workers].append(passages / seconds)
            load = os.getloadavg()[0]
            print(
                f"{workers} workers: {passages} passages in {seconds:.1f} s (load average {load:.1f})",
                flush=True,
            )
    one, two = Rate(tuple(rates[1])), Rate(tuple(rates[2]))
    print(f"passages/s: one worker {one}, two workers {two}, ratio {ratio(two, one)}")


if __name__ == "__main__":
    main()
