"""`python -m model generate NAME "prompt"`: a reply that streams to standard output, or a chat.

With a prompt, or with text on standard input, one reply. Without either, on a terminal, a conversation:
Ctrl-C stops a reply, Ctrl-D ends. What is not the reply goes to standard error.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Literal

from model import install, shelf
from model.chat import Message
from model.config import Sampling
from model.engine.cache import Cache
from model.engine.engine import Engine
from model.engine.generation import Generation
from model.engine.probe import NAMED
from model.errors import ContextOverflow, ModelError, UnknownModel
from model.formats import peft

#: Sampling fields that are options: name -> how to read the value.
OPTIONS = {
    "max_tokens": int,
    "temperature": float,
    "top_k": int,
    "top_p": float,
    "min_p": float,
    "repetition_penalty": float,
    "seed": int,
    "num_beams": int,
    "length_penalty": float,
    "prompt_lookup": int,
}
MEANING = {
    "num_beams": "above 1: look for the likeliest reply, so many at a time; ",
    "length_penalty": "of beams: above 0 favours long replies; ",
    "prompt_lookup": "draft so many tokens at a time from what was read (greedy, packed kernels); ",
}
#: How to stop a beam search, as it is written.
EARLY: dict[str, bool | Literal["never"]] = {"no": False, "yes": True, "never": "never"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `generate`."""
    parser.add_argument("name", help="an installed model, or the folder of a checkpoint")
    parser.add_argument("prompt", nargs="?", help="what to say; without it a chat, or standard input")
    parser.add_argument("--system", help="system turn, in place of the model's own")
    parser.add_argument(
        "--raw", action="store_true", help="continue the prompt as plain text, no chat template"
    )
    for field in fields(Sampling):
        if field.name in OPTIONS:
            flag, own = "--" + field.name.replace("_", "-"), field.name != "max_tokens"
            parser.add_argument(
                flag,
                type=OPTIONS[field.name],
                default=field.default if own else None,
                help=MEANING.get(field.name, "")
                + f"default: {field.default}{'' if own else ', or what fits'}",
            )
    parser.add_argument(
        "--early-stopping", choices=EARLY, default="no", help="when a beam search ends; default: %(default)s"
    )
    parser.add_argument(
        "--stop", action="append", default=[], help="end the reply before this text; may be repeated"
    )
    parser.add_argument(
        "--adapter", metavar="NAME", help="let this adapter speak, beside the model's weights"
    )
    parser.add_argument("--kernel", choices=["auto", *NAMED], default="auto", help="what to compute with")
    parser.add_argument("--threads", type=int, help="threads of the process")
    parser.add_argument("--json", action="store_true", help="one JSON object in place of streamed text")


def run(args: argparse.Namespace, home: Path) -> int:
    """Run `generate`; returns the exit status.

    Raises:
        ModelError: what the engine raises, and UnknownModel for a name that is not installed.
    """
    values = {name: given for name in OPTIONS if (given := getattr(args, name)) is not None}
    sampling = Sampling(**values, stop=tuple(args.stop), early_stopping=EARLY[args.early_stopping])
    if args.threads is not None and args.threads < 1:
        raise ModelError(f"--threads must be at least 1, got {args.threads}")
    piped = None if args.prompt is not None or sys.stdin.isatty() else sys.stdin.read().rstrip("\n")
    if piped == "":
        raise ModelError("no prompt: give one as an argument or on standard input")
    adapter = shelf.find(args.adapter, home) if args.adapter else None
    engine = Engine.load(
        _folder(args.name, install.models_folder(home)), threads=args.threads, kernel=args.kernel
    )
    if adapter is not None:
        engine.attach(adapter.name, peft.read(adapter.folder, engine.config, base=engine.base))
        engine = engine.use(adapter.name)
    _note(engine.describe())
    prompt = args.prompt if args.prompt is not None else piped
    if prompt is None:
        return _chat(engine, sampling, args.system, fit=args.max_tokens is None)
    ids = engine.tokenizer.begin(prompt) if args.raw else engine.prompt(_messages(args.system, prompt))
    sampling = _fitting(engine, ids, sampling) if args.max_tokens is None else sampling
    _reply(engine.generate(ids, sampling), as_json=args.json)
    return 0


def _folder(name: str, models_home: Path) -> Path:
    for path in (models_home / name, Path(name)):
        if (path / "config.json").is_file():
            return path
    raise UnknownModel(
        f"{name} is not installed in {models_home}, nor a checkpoint's folder: `python -m model pull {name}`"
    )


def _messages(system: str | None, prompt: str) -> list[Message]:
    user: Message = {"role": "user", "content": prompt}
    return [user] if system is None else [{"role": "system", "content": system}, user]


def _fitting(engine: Engine, prompt: Sequence[int], sampling: Sampling) -> Sampling:
    """As many tokens as the window has room for: a small model's window may be no longer than the default."""
    room = engine.config.context_length - len(prompt)
    return replace(sampling, max_tokens=min(sampling.max_tokens, max(room, 1)))


def _chat(engine: Engine, sampling: Sampling, system: str | None, *, fit: bool) -> int:
    """A conversation until Ctrl-D; what was read once is not read again."""
    messages = [] if system is None else _messages(system, "")[:1]
    cache: Cache | None = None
    read: list[int] = []
    _note("Ctrl-C stops a reply, Ctrl-D ends.")
    while True:
        try:
            said = input("> ")
        except (EOFError, KeyboardInterrupt):
            sys.stdout.write("\n")
            return 0
        if not said.strip():
            continue
        asked: list[Message] = [*messages, {"role": "user", "content": said}]
        prompt = engine.prompt(asked)
        if cache is not None:
            same = next(
                (i for i, (old, new) in enumerate(zip(read, prompt, strict=False)) if old != new), len(read)
            )
            cache.truncate(min(same, len(prompt)))
        try:
            asked_for = _fitting(engine, prompt, sampling) if fit else sampling
            generation = engine.generate(prompt, asked_for, cache=cache)
            text, tokens = _reply(generation)
        except ContextOverflow as error:
            _note(f"{error}. Starting over.")
            messages, cache, read = messages[: 0 if system is None else 1], None, []
            continue
        messages = [*asked, {"role": "assistant", "content": text}]
        cache, read = generation.cache, prompt + tokens


def _reply(generation: Generation, *, as_json: bool = False) -> tuple[str, list[int]]:
    """Print a reply as it comes; its text and tokens. Ctrl-C ends it there."""
    start, first = time.perf_counter(), None
    pieces: list[str] = []
    tokens: list[int] = []
    try:
        for token in generation:
            first = first or time.perf_counter() - start
            tokens.append(token.id)
            pieces.append(token.text)
            if not as_json:
                sys.stdout.write(token.text)
                sys.stdout.flush()
    except KeyboardInterrupt:
        generation.finish_reason = generation.finish_reason or "stop"
    seconds = time.perf_counter() - start
    text = "".join(pieces)
    if as_json:
        said = {
            "text": text,
            "finish_reason": generation.finish_reason,
            "prompt_tokens": generation.prompt_tokens,
            "completion_tokens": generation.completion_tokens,
            "drafted_tokens": generation.drafted_tokens,
            "kept_tokens": generation.kept_tokens,
            "first_token_s": round(first or seconds, 3),
            "seconds": round(seconds, 3),
        }
        sys.stdout.write(json.dumps(said, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write("\n")
        after = max(seconds - (first or 0.0), 1e-9)
        drafted = generation.drafted_tokens
        guessed = f"; {generation.kept_tokens} of {drafted} drafted tokens were right" if drafted else ""
        _note(
            f"{generation.prompt_tokens} tokens read ({generation.cached_tokens} of them before), one written"
            f" in {first or seconds:.2f} s, then {(len(tokens) - 1) / after:.0f} tokens/s; "
            f"ended by {generation.finish_reason}{guessed}"
        )
    return text, tokens


def _note(line: str) -> None:
    sys.stderr.write(f"[{line}]\n")
    sys.stderr.flush()
