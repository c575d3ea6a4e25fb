"""Put a trained span reader where the package ships it: `model/readers/span-reader`.

    python -m examples.span_reader.ship [RUN] [--checkpoint last] [--keep 0] [--home HOME] [--sets NAME ...]
        [--figures FILE.md] [--target FOLDER]

Matrices are rounded to 8 bits; card and loss picture go beside them. `--figures` is a piece of Markdown that is
put into the card; `--sets` are those that the set was built of. Measure after shipping (`python -m benchmarks.chinese`), so that the figures are those of the rounded
file.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file

from examples.span_reader.build import CROSSED, ENCODER, LARGE, LOWER_LAYERS, RECORDS, WRITTEN
from examples.span_reader.train import WEIGHTS
from ingest.settings import find_home
from model import install
from model.folder import MANIFEST, replaced
from model.spans import folder
from model.spans.data import SpanSet
from model.spans.encoder import read_encoder
from model.spans.network import SpanNet
from model.train import runs
from model.train.picture import draw

CARD, PICTURE = "README.md", "loss.png"
#: Sets to the script of their questions and their rows in the card.
SOURCES = {
    "cmrc2018_train": (
        "CJK",
        "CMRC 2018, training part (Cui et al., 2019; text from Wikipedia) | Chinese, simplified | CC BY-SA 4.0",
    ),
    "drcd_a": (
        "CJK",
        "DRCD, parts of dev and test (Shao et al., 2018; text from Wikipedia) | Chinese, traditional "
        "| CC BY-SA 3.0",
    ),
    "squad_train": (
        "LATIN",
        "SQuAD 1.1 and 2.0, articles of its dev set (Rajpurkar et al., 2016 and 2018; text from Wikipedia) "
        "| English | CC BY-SA 4.0",
    ),
    LARGE: (
        "LATIN",
        "SQuAD 1.1, training part, some three questions a paragraph (Rajpurkar et al., 2016; text from Wikipedia) "
        "| English | CC BY-SA 4.0",
    ),
    "nq_oracle_a": (
        "LATIN",
        "Natural Questions, gold passages (Kwiatkowski et al., 2019; Liu et al., 2023; text from Wikipedia) "
        "| English | CC BY-SA 3.0",
    ),
    CROSSED: (
        "CJK",
        "XQuAD, paragraphs of the same SQuAD articles (Artetxe et al., 2019), question and passage in different languages "
        "| Chinese and English | CC BY-SA 4.0",
    ),
    WRITTEN: (
        "LATIN",
        "questions that Lorebase's question writer wrote on wikitext-2's validation part and thirty articles of Wikipedia "
        "(CC BY-SA) and on web pages of C4 (ODC-By 1.0) | English | as named",
    ),
    RECORDS: (
        "CJK",
        "records of invented people and products, made for Lorebase as tables, JSON, notes and sentences "
        "| Chinese and English | Apache-2.0",
    ),
}
#: The repository takes no larger one.
MOST_BYTES = 16_000_000


def told(run: runs.Run, width: int) -> str:
    """A line of the card on what a run learned from."""
    config = run.config()
    pairs = [pair for pair in SpanSet(Path(config["data"]), width).pairs if not pair.held]
    answered = sum(pair.answer is not None for pair in pairs)
    return (
        f"{len(pairs):,} pairs of a question and a passage, of which {answered:,} have the answer in them, "
        f"{'once' if config['epochs'] == 1 else '{:g} times'.format(config['epochs'])} over:"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", nargs="?", default="span-reader", help="a run's name")
    parser.add_argument("--checkpoint", choices=("best", "last"), default="best", help="best: by validation")
    parser.add_argument(
        "--keep", type=float, default=0.0, metavar="SHARE", help="of the reader that the run began with"
    )
    parser.add_argument("--home", type=Path, help="data folder; default: the one in use")
    parser.add_argument("--sets", nargs="+", choices=SOURCES, default=list(SOURCES))
    parser.add_argument("--figures", type=Path, help="Markdown for the card")
    parser.add_argument("--target", type=Path, default=folder.SHIPPED)
    args = parser.parse_args()
    home = args.home or find_home()
    run = runs.find(home, args.run)
    found = run.checkpoints / args.checkpoint / WEIGHTS
    if not found.is_file():
        raise SystemExit(f"the run {args.run} has no {args.checkpoint} checkpoint yet")
    encoder = read_encoder(install.find(ENCODER, home))
    net = SpanNet(encoder.config, encoder.config.n_layers - LOWER_LAYERS)
    state = load_file(found)
    if args.keep:
        # Between the weights before and after a training (Wortsman et al. 2021, WiSE-FT, arXiv 2109.01903).
        before = folder.unpacked(load_file(Path(run.config()["begin"]) / WEIGHTS))
        state = {name: torch.lerp(new, before[name].to(new.dtype), args.keep) for name, new in state.items()}
    net.load_state_dict(state)
    card = Path(__file__).with_name("card.md").read_text(encoding="utf-8")
    card = card.replace("{pairs}", told(run, encoder.config.width))
    kept = f" What is shipped lies between the weights before and after: {args.keep:.0%} of before."
    card = card.replace("{kept}", kept if args.keep else "")
    card = card.replace("{sources}", "\n".join(f"| {SOURCES[name][1]} |" for name in args.sets))
    scripts = sorted({SOURCES[name][0] for name in args.sets})
    figures = args.figures.read_text(encoding="utf-8").strip() if args.figures else "Not measured yet."
    args.target.parent.mkdir(parents=True, exist_ok=True)
    with replaced(args.target, {"kind": "span reader", "run": args.run}) as new:
        folder.write(new, net, encoder, ENCODER, scripts)
        (new / CARD).write_text(card.replace("{figures}", figures), encoding="utf-8")
        draw(run.metrics(), args.run, new / PICTURE)
    size = sum(file.stat().st_size for file in args.target.iterdir() if file.name != MANIFEST)
    if size > MOST_BYTES:
        raise SystemExit(f"{args.target} takes {size} bytes, more than {MOST_BYTES}")
    print(f"{args.target}: {size} bytes")


if __name__ == "__main__":
    main()
