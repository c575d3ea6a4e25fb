"""Put a trained reading adapter where the package ships it: `model/adapters/grounded-qa`.

    python -m examples.grounded_qa.ship [RUN] [--home HOME] [--figures FILE.json] [--target FOLDER]

Matrices are rounded to bfloat16, which halves the file; loss picture and card go beside them. `--figures` is
what `python -m benchmarks.reading --json FILE.json` wrote: its table is put into the card. Measure after
shipping, with `--adapter model/adapters/grounded-qa`, so that the figures are those of the rounded file.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ingest.settings import find_home
from model import install
from model.folder import MANIFEST, replaced
from model.formats import peft
from model.layout import read_config
from model.merge_command import adapter_folder, base_of

HERE = Path(__file__).parent
TARGET = HERE.parents[1] / "model" / "adapters" / "grounded-qa"
CARD, PICTURE = "README.md", "loss.png"
#: The repository takes no larger file.
MOST_BYTES = 10_000_000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", nargs="?", default="grounded-qa", help="adapter's name or folder")
    parser.add_argument("--home", type=Path, help="data folder; default: the one in use")
    parser.add_argument("--figures", type=Path, help="what benchmarks.reading wrote")
    parser.add_argument("--target", type=Path, default=TARGET)
    args = parser.parse_args()
    card = (HERE / "card.md").read_text(encoding="utf-8")
    card = card.replace("{figures}", table(args.figures) if args.figures else "Not measured yet.")
    print(ship(args.run, args.home or find_home(), args.target, card))


def ship(run: str, home: Path, target: Path, card: str) -> str:
    """Put the adapter of a run, rounded, with its card and its picture into `target`; says what is there."""
    source = adapter_folder(run, home)
    base = base_of(source)
    config, _ = read_config(install.find(base, home))
    adapter = peft.read(source, config)
    rounded = {
        name: replace(part, a=part.a.to(torch.bfloat16), b=part.b.to(torch.bfloat16))
        for name, part in adapter.modules.items()
    }
    picture = home / "runs" / run / PICTURE
    target.parent.mkdir(parents=True, exist_ok=True)
    with replaced(target, {"kind": "adapter", "run": run}) as new:
        peft.write(new, replace(adapter, modules=rounded), config, base_name=base)
        (new / CARD).write_text(card, encoding="utf-8")
        if picture.is_file():
            (new / PICTURE).write_bytes(picture.read_bytes())
    size = sum(file.stat().st_size for file in target.iterdir() if file.name != MANIFEST)
    if size > MOST_BYTES:
        raise SystemExit(f"{target} takes {size} bytes, more than {MOST_BYTES}")
    return f"{target}: {size} bytes, trained on {base}"


def table(figures: Path) -> str:
    """The figures of every set as Markdown."""
    found: dict[str, list[dict[str, Any]]] = json.loads(figures.read_text(encoding="utf-8"))
    lines = [
        "| set | n | exact match | F1 | refused | quotes that stand in the passage |",
        "|" + " --- |" * 6,
    ]
    for name, results in found.items():
        told = [one for one in results if not one["refused"]]
        answerable = any(one["golds"] for one in results)
        cells = [
            name,
            str(len(results)),
            share(results, "exact") if answerable else "-",
            share(results, "f1") if answerable else "-",
            share(results, "refused"),
            share(told, "verbatim") if told else "-",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def share(results: list[dict[str, Any]], key: str) -> str:
    return f"{sum(float(one[key]) for one in results) / len(results):.1%}"


if __name__ == "__main__":
    main()
