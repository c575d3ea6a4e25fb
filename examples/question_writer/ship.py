"""Put a trained question writer where the package ships it: `model/adapters/question-writer`.

    python -m examples.question_writer.ship [RUN] [--home HOME] [--target FOLDER]

As `examples.grounded_qa.ship` does: matrices in bfloat16, with card and loss picture.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from examples.grounded_qa.ship import TARGET, ship
from ingest.settings import find_home

HERE = Path(__file__).parent
NAME = "question-writer"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", nargs="?", default=NAME, help="adapter's name or folder")
    parser.add_argument("--home", type=Path, help="data folder; default: the one in use")
    parser.add_argument("--target", type=Path, default=TARGET.with_name(NAME))
    args = parser.parse_args()
    card = (HERE / "card.md").read_text(encoding="utf-8")
    print(ship(args.run, args.home or find_home(), args.target, card))


if __name__ == "__main__":
    main()
