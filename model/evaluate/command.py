"""`python -m model evaluate perplexity|exact|judge`."""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import zlib
from pathlib import Path
from typing import Any

from tqdm import tqdm

from model.config import Sampling
from model.data.sets import DataConfig
from model.errors import DataError, ModelError
from model.evaluate import instructions as asking
from model.evaluate import judge as judging
from model.evaluate.perplexity import surprise
from model.heads.figures import wilson
from model.lines import Lines
from model.ollama import PREFIX, Ollama

WINDOW = 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The sub-commands of `evaluate`."""
    commands = parser.add_subparsers(dest="evaluate_command", required=True, metavar="perplexity|exact|judge")

    def command(name: str, help: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=help)
        made.add_argument("--home", default=argparse.SUPPRESS, help="data folder")
        made.add_argument("--json", action="store_true", help="one JSON object")
        return made

    plain = command("perplexity", "how surprising a text is: perplexity and bits per byte")
    plain.add_argument("model", help="MODEL or MODEL+ADAPTER")
    plain.add_argument("file", type=Path, help="a text file, gzipped or not")
    plain.add_argument("--window", type=int, help=f"tokens seen at once; default: {WINDOW}, or the model's")
    plain.add_argument("--stride", type=int, help="tokens by which it moves on; default: half the window")
    plain.add_argument("--max_tokens", "--max-tokens", type=_some, help="only the first so many tokens")
    exact = command("exact", "how many replies say exactly what a set says")
    exact.add_argument("model", help="MODEL or MODEL+ADAPTER")
    judge = command("judge", "marks of replies by a model in Ollama, before against after")
    judge.add_argument("--judge", required=True, metavar="ollama/NAME", help="who marks")
    judge.add_argument("--before", required=True, metavar="MODEL", help="MODEL or MODEL+ADAPTER")
    judge.add_argument("--after", required=True, metavar="MODEL", help="MODEL or MODEL+ADAPTER")
    judge.add_argument("--kept", type=Path, help="file that keeps marks; default: in the data folder")
    for made in (exact, judge):
        add = made.add_argument
        add("--dataset", nargs="+", required=True, help="instructions with replies, as for sft")
        add("--dataset_dir", "--dataset-dir", type=Path, default=Path("data"))
        add("--val_size", "--val-size", type=float, default=0.0, help="as in sft: only what it held out")
        add("--limit", type=_some, help="at most so many instructions")
        add("--max_tokens", "--max-tokens", type=_some, default=256, help="of a reply; default: %(default)s")


def _some(text: str) -> int:
    """A number of things, of which there is at least one."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def run(args: argparse.Namespace, home: Path, ollama: str) -> int:
    """Evaluate; 0 done.

    Raises:
        ModelError: a model, text, set or judge that cannot be used.
    """
    if args.evaluate_command == "perplexity":
        return _perplexity(args, home)
    names = tuple(str(Path(name).resolve()) if Path(name).is_file() else name for name in args.dataset)
    data = DataConfig(dataset=names, dataset_dir=args.dataset_dir, val_size=args.val_size)
    found, report = asking.held_out(data, args.limit)
    for line in (*report, f"{len(found)} instructions"):
        _say(line)
    if args.evaluate_command == "exact":
        return _exact(args, home, found)
    return _judge(args, home, found, ollama)


def _perplexity(args: argparse.Namespace, home: Path) -> int:
    text = _text(args.file)
    engine = asking.speaker(args.model, home)
    window = min(WINDOW, engine.config.context_length) if args.window is None else args.window
    stride = max(window // 2, 1) if args.stride is None else args.stride
    with tqdm(unit="token", file=sys.stderr, disable=None) as bar:

        def say(done: int, of: int) -> None:
            bar.total = of
            bar.update(done - bar.n)

        found = surprise(engine, text, window=window, stride=stride, max_tokens=args.max_tokens, say=say)
    figures = {
        "model": args.model,
        "tokens": found.tokens,
        "bytes": found.bytes,
        "window": window,
        "stride": stride,
        "perplexity": found.perplexity,
        "bits_per_byte": found.bits_per_byte,
    }
    line = (
        f"perplexity {found.perplexity:.4f}, {found.bits_per_byte:.4f} bits per byte: {found.tokens} tokens "
        f"of {found.bytes} bytes, window {window}, stride {stride}"
    )
    return _out(args, figures, line)


def _exact(args: argparse.Namespace, home: Path, found: list[asking.Instruction]) -> int:
    said = _replies(args.model, args, home, found)
    right = asking.exact(said, found)
    low, high = wilson(sum(right), len(right))
    share = sum(right) / len(right)
    figures = {
        "model": args.model,
        "instructions": len(right),
        "exact": share,
        "exact_low": low,
        "exact_high": high,
    }
    line = f"{sum(right)} of {len(right)} replies are exact: {share:.1%} ({low:.1%} to {high:.1%})"
    return _out(args, figures, line)


def _judge(args: argparse.Namespace, home: Path, found: list[asking.Instruction], ollama: str) -> int:
    if not args.judge.startswith(PREFIX) or args.judge == PREFIX:
        raise ModelError(f"--judge {args.judge!r} should be ollama/NAME: a model in Ollama")
    judge = args.judge.removeprefix(PREFIX)
    kept = Lines(
        args.kept or home / "evaluations" / f"judge-{judge.replace('/', '-').replace(':', '-')}.jsonl"
    )
    client = Ollama(ollama)
    try:
        marked, unanswered = [], 0
        for name in (args.before, args.after):
            said = _replies(name, args, home, found)
            marks, failed = judging.marks(judge, client, found, said, kept=kept, say=_say)
            marked.append(marks)
            unanswered += failed
    finally:
        client.close()
    verdict = judging.compare(marked[0], marked[1], unanswered)
    few = f"; fewer than {judging.ENOUGH} instructions: take it as a hint" * (len(found) < judging.ENOUGH)
    line = (
        f"before {verdict.before:.1f}, after {verdict.after:.1f} of 100: gain {verdict.gain:+.1f} "
        f"({verdict.gain_low:+.1f} to {verdict.gain_high:+.1f}) on {verdict.pairs} of {verdict.instructions} "
        f"instructions; {verdict.malformed} malformed, {verdict.unanswered} unanswered{few}. Marks: "
        f"{kept.file}"
    )
    about = {"judge": args.judge, "before_model": args.before, "after_model": args.after}
    return _out(args, about | verdict.to_dict(), line)


def _replies(name: str, args: argparse.Namespace, home: Path, found: list[asking.Instruction]) -> list[str]:
    """Greedy replies of a model, whose memory is given back afterwards."""
    engine = asking.speaker(name, home)
    with tqdm(total=len(found), unit="reply", desc=name, file=sys.stderr, disable=None) as bar:
        return asking.replies(
            engine, found, Sampling(max_tokens=args.max_tokens), lambda done, _: bar.update(done - bar.n)
        )


def _text(file: Path) -> str:
    try:
        data = file.read_bytes()
        plain = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        return plain.decode("utf-8-sig")  # a byte order mark is no part of the text
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file} cannot be read: {error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 (byte {error.start}); convert it first") from error


def _out(args: argparse.Namespace, figures: dict[str, Any], line: str) -> int:
    sys.stdout.write((json.dumps(figures, ensure_ascii=False) if args.json else line) + "\n")
    return 0


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
