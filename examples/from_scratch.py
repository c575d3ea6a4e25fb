"""From a text file to a chat with a model of one's own, every step a command that you could type yourself.

    python examples/from_scratch.py TEXT...      two million characters and ten minutes, say
    python examples/from_scratch.py --tiny       a few sentences and a tiny model: seconds (the tests run it)

1. tokenizer train   a byte-pair vocabulary of the text's own words
2. tokenizer compare how it cuts, beside characters and words
3. pretrain          a small decoder learns to go on with the text
4. sft --full        it learns to answer, from the rows of identity.json
5. dpo, merge        it learns which of two replies is better, and the adapter is folded in
6. generate          a question is answered

Stopped, by Ctrl-C or by a power cut, the same command goes on where it was: what is done is not done again, and a
run that was stopped goes on after its last checkpoint. The sets it makes stand below `from-scratch/NAME` in the data
folder, loss pictures below `runs`. Afterwards talk to it: `python -m model generate NAME`. What a small model says
about the world is not to be relied on: it has read little.
"""

from __future__ import annotations

import os

# As the commands set it, before torch is imported: threads that wait give their core away.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

import argparse
import contextlib
import io
import json
import math
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ingest.settings import find_home
from model.__main__ import main as model_command
from model.layout import read_config
from model.train import runs

HERE = Path(__file__).resolve().parent
QUESTIONS = ("Who are you?", "What is Lorebase?")
#: What a run that was asked to stop ends with.
STOPPED = 130
Settings = dict[str, dict[str, Any]]

#: For two million characters of text: a million parameters, some ten minutes of one quiet processor.
REAL: Settings = {
    "tokenizer": {"vocab_size": 2048},
    "pretrain": {"preset": "nano-llama", "n_layers": 4, "n_heads": 4, "n_kv_heads": 2, "d_model": 128,
                 "context_length": 128, "max_steps": 1200, "eval_steps": 150, "max_eval_tokens": 30_000,
                 "per_device_train_batch_size": 8, "learning_rate": 0.002, "compute_type": "fp32"},
    "sft": {"num_train_epochs": 20, "learning_rate": 1e-3, "per_device_train_batch_size": 8, "compute_type": "fp32"},
    "dpo": {"num_train_epochs": 2, "learning_rate": 1e-3, "per_device_train_batch_size": 4, "compute_type": "fp32"},
}  # fmt: skip
TINY: Settings = {
    "tokenizer": {"vocab_size": 700},
    "pretrain": {"preset": "nano-llama", "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "d_model": 64,
                 "context_length": 128, "max_steps": 30, "eval_steps": 15, "per_device_train_batch_size": 4,
                 "learning_rate": 0.003, "separate": "line", "compute_type": "fp32"},
    "sft": {"max_steps": 90, "learning_rate": 0.01, "per_device_train_batch_size": 4, "compute_type": "fp32"},
    "dpo": {"max_steps": 4, "learning_rate": 1e-3, "per_device_train_batch_size": 4, "compute_type": "fp32"},
}  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Run every step that is not done yet; 0 where all did what they should."""
    parser = argparse.ArgumentParser(description="a text file -> tokenizer -> model -> chat")
    parser.add_argument("texts", nargs="*", type=Path, help="files and folders: raw text, JSONL, parquet")
    parser.add_argument("--tiny", action="store_true", help="a few sentences and a tiny model")
    parser.add_argument("--home", type=Path, help="data folder")
    parser.add_argument("--name", default="mine", help="of all that is made")
    parser.add_argument("--steps", type=int, help="of pretraining")
    given = parser.parse_args(argv)
    if bool(given.texts) == given.tiny:
        parser.error("give a text, or --tiny")
    home = (given.home or find_home()).resolve()
    work = home / "from-scratch" / given.name
    work.mkdir(parents=True, exist_ok=True)
    rows = json.loads((HERE / "identity.json").read_text(encoding="utf-8"))
    rows = rows[3:60:4] if given.tiny else rows
    settings = TINY if given.tiny else REAL
    if given.steps:
        settings = settings | {"pretrain": settings["pretrain"] | {"max_steps": given.steps}}
    texts = [file.resolve() for file in given.texts] or [sentences(work, rows)]
    the_same(work, {"texts": [str(file) for file in texts], "settings": settings})
    walk(home, texts, given.name, rows=rows, work=work, settings=settings)
    return 0


def the_same(work: Path, asked: dict[str, Any]) -> None:
    """Note what the walk was begun with; end where another one of this name was begun with something else."""
    note = work / "begun.json"
    if not note.exists():
        note.write_text(json.dumps(asked, indent=1), encoding="utf-8")
    elif json.loads(note.read_text(encoding="utf-8")) != asked:
        sys.exit(f"{work.name} was begun with other texts or settings ({note}); choose another --name")


def walk(
    home: Path,
    texts: Sequence[Path],
    name: str,
    *,
    rows: list[dict[str, Any]],
    work: Path,
    settings: Settings,
) -> None:
    """The steps, each with its check."""
    words, letters, base, chat = f"{name}-words", f"{name}-letters", f"{name}-base", f"{name}-chat"
    file = sets(work, rows)

    step(1, "a vocabulary of the text's own words")
    cut = ("tokenizer", "train", *texts)
    make(home, "tokenizers", words, *cut, "--kind", "bpe", "--name", words, **settings["tokenizer"])
    make(home, "tokenizers", letters, *cut, "--kind", "char", "--name", letters)

    step(2, "how it cuts")
    run(home, "tokenizer", "compare", words, letters, "--text", "unhappiness")

    step(3, "a decoder learns to go on with the text")
    train(home, base, "pretrain", "--dataset", *texts, "--tokenizer", words, **settings["pretrain"])
    best, guessing = min(judged(home, base)), math.log(vocabulary(home, base))
    check(best < guessing, f"the validation loss, {best:.3f}, is below that of guessing, {guessing:.3f}")
    said = generate(home, base, "The", "--raw")
    say(f"  it goes on: The{said}")

    step(4, "it learns to answer")
    sft = ("--dataset", "chat", "--dataset_dir", file, "--cutoff_len", 128, "--full")
    train(home, chat, "sft", "--model", base, *sft, **settings["sft"])

    step(5, "it learns which of two replies is better")
    pairs = ("--dataset", "pairs", "--dataset_dir", file, "--cutoff_len", 128)
    train(home, f"{name}-dpo", "dpo", "--model", chat, *pairs, **settings["dpo"])
    make(home, "models", name, "merge", f"{name}-dpo", "--name", name)

    step(6, "questions")
    for question in QUESTIONS:
        before, after = (generate(home, model, question) for model in (base, name))
        say(f"  {question}\n    pretrained only: {before}\n    at the end:      {after}")
        check(bool(after.strip()) and after != before, "it answers otherwise than before it learned to")
    for run_name in (base, chat, f"{name}-dpo"):
        check((home / "runs" / run_name / "loss.png").is_file(), f"the loss is drawn in runs/{run_name}")
    say(f"\nTalk to it: python -m model generate {name} --home {home}")


# ----------------------------------------------------------------------------------------------------
# texts and sets


def sentences(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """A small text: what the rows say, and the sentences of a page of the manual."""
    page = (HERE.parent / "docs" / "what-is-lorebase.md").read_text(encoding="utf-8")
    file = folder / "text.txt"
    file.write_text(
        page + "\n".join(f"{row['instruction']} {row['output']}" for row in rows), encoding="utf-8"
    )
    return file


def sets(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """The rows as a set to answer from, and as pairs: a reply is better than that to another question."""
    (folder / "chat.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    others = [*rows[1:], rows[0]]
    pairs = [
        {"instruction": row["instruction"], "input": "", "chosen": row["output"], "rejected": other["output"]}
        for row, other in zip(rows, others, strict=True)
        if row["output"] != other["output"]
    ]
    (folder / "pairs.json").write_text(json.dumps(pairs, ensure_ascii=False), encoding="utf-8")
    registry = {
        "chat": {"file_name": "chat.json"},
        "pairs": {
            "file_name": "pairs.json",
            "ranking": True,
            "columns": {
                "prompt": "instruction",
                "query": "input",
                "chosen": "chosen",
                "rejected": "rejected",
            },
        },
    }
    (folder / "dataset_info.json").write_text(json.dumps(registry), encoding="utf-8")
    return folder


# ----------------------------------------------------------------------------------------------------
# commands


def make(home: Path, shelf: str, name: str, *arguments: object, **settings: object) -> None:
    """A command that makes a tokenizer or a model, unless it is there: each appears whole or not at all."""
    if (home / shelf / name).is_dir():
        say(f"  done: {name} is in {shelf}")
    else:
        run(home, *arguments, **settings)


def train(home: Path, name: str, *arguments: object, **settings: object) -> None:
    """A training run: begun, gone on with where it was stopped, or left as it is where it has finished."""
    if not (home / "runs" / name / "config.json").is_file():
        run(home, *arguments, "--name", name, **settings)
    elif (state := runs.find(home, name).status()["state"]) == "finished":
        say(f"  done: the run {name} has finished")
    else:
        say(f"  the run {name} was begun ({state}) and goes on")
        run(home, arguments[0], "--resume", name)


def run(home: Path, *arguments: object, **settings: object) -> None:
    """One command of `python -m model`, shown as it would be typed."""
    flags = [part for key, value in settings.items() for part in (f"--{key}", value)]
    words = [str(argument) for argument in (*arguments, *flags)]
    say(f"$ python -m model {shlex.join(words)}")
    if (status := model_command([*words, "--home", str(home)])) == STOPPED:
        sys.exit("stopped and saved; the same command goes on from here")
    if status:
        sys.exit(f"python -m model {words[0]} ended with status {status}")


def generate(home: Path, name: str, prompt: str, *flags: str) -> str:
    """What `python -m model generate` says, greedily, as one line."""
    out, err = io.StringIO(), io.StringIO()
    words = ["generate", "--home", str(home), name, prompt, "--max-tokens", "48", "--json", *flags]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = model_command(words)
    if status:
        sys.exit(err.getvalue())
    return " ".join(json.loads(out.getvalue())["text"].split())


def judged(home: Path, name: str) -> list[float]:
    """The validation losses of a run."""
    lines = (home / "runs" / name / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [event["eval_loss"] for event in map(json.loads, lines) if "eval_loss" in event]


def vocabulary(home: Path, name: str) -> int:
    """How many tokens a model knows."""
    return read_config(home / "models" / name)[0].vocab_size


def step(number: int, title: str) -> None:
    """Announce a step."""
    say(f"\n== {number}. {title}")


def check(holds: bool, what: str) -> None:
    """Say that something is as it should be, or end."""
    if not holds:
        sys.exit(f"BROKEN: {what}")
    say(f"  holds: {what}")


def say(line: str) -> None:
    """To the terminal, in order with what the commands write."""
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
