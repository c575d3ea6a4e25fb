"""What a second ingest of an unchanged folder costs, through the command line that people use.

    python -m benchmarks.reingest [--files 1000]

Claim: no file is parsed and no passage is embedded. Exits with 1 if that is not so.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ingest.settings import find_home


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
        first, first_s = ingest(folder, home)
        second, second_s = ingest(folder, home)
    print(f"first:  {first_s:6.1f} s  {json.dumps(first)}")
    print(f"second: {second_s:6.1f} s  {json.dumps(second)}")
    if second["parsed"] or second["embedded"]:
        sys.exit("an unchanged file was parsed or embedded")
    print(
        f"an unchanged ingest of {args.files} files: 0 parsed, 0 embedded, {first_s / second_s:.0f} times as fast as the first"
    )


if __name__ == "__main__":
    main()
