"""How tokenizers cut a text, and how fast libraries encode with one of them."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import tiktoken
from tokenizers import Tokenizer as Library

from model.errors import TokenizerError, UnsupportedModel
from model.tokenizer import Tokenizer
from model.tokenizing.shelf import library

OURS = "lorebase"


@dataclass(frozen=True, slots=True)
class Cut:
    """A text as one tokenizer cuts it."""

    name: str
    pieces: list[str]  #: what each token stands for; half a character as its bytes
    unknown: int  #: tokens that stand for words it does not know
    back: bool  #: whether the ids give the text back

    def __str__(self) -> str:
        """One line: pieces apart by a bar."""
        lost = f", {self.unknown} unknown" if self.unknown else ""
        back = "" if self.back else ", not the same text back"
        return f"{self.name}: {len(self.pieces)} tokens{lost}{back}: {' | '.join(self.pieces)}"


def cut(name: str, file: Path, text: str) -> Cut:
    """Cut `text` with the tokenizer in `file`, special tokens around it left out.

    Raises:
        TokenizerError: not a tokenizer.json.
    """
    made = _literal(library(file))
    encoded = made.encode(text, add_special_tokens=False)
    kind = json.loads(file.read_text(encoding="utf-8"))["model"].get("type")
    unknown = made.token_to_id("[UNK]")
    try:
        ours = Tokenizer.from_file(file)
    except (TokenizerError, UnsupportedModel):
        pieces = [token.removeprefix("##") if kind == "WordPiece" else token for token in encoded.tokens]
        pieces = [f"##{p}" if t.startswith("##") else p for p, t in zip(pieces, encoded.tokens, strict=True)]
        back = made.decode(encoded.ids)
    else:
        pieces = [_shown(ours.token_bytes(i)) for i in ours.encode(text)]
        back = ours.decode(ours.encode(text))
    return Cut(name, pieces, encoded.ids.count(unknown) if unknown is not None else 0, back == text)


def _literal(made: Library) -> Library:
    """One that takes the name of a special token for text, as ours and tiktoken do."""
    made.encode_special_tokens = True
    return made


def _shown(data: bytes) -> str:
    """As text where it is text; what cannot be seen is escaped."""
    try:
        return data.decode().replace("\n", "\\n").replace("\t", "\\t")
    except UnicodeDecodeError:
        return data.hex(" ")


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast a library encodes."""

    name: str
    tokens: int
    mb_per_s: float  #: the median round
    #: Against the tokenizers library, round by round: median, lowest, highest.
    ratio: tuple[float, float, float]

    def __str__(self) -> str:
        """One line."""
        middle, low, high = self.ratio
        return (
            f"{self.name:12} {self.mb_per_s:7.2f} MB/s  {middle:5.2f} times tokenizers "
            f"({low:.2f} to {high:.2f})  {self.tokens:,} tokens"
        )


def speeds(file: Path, texts: Sequence[str], rounds: int = 5) -> list[Speed]:
    """Four libraries encode the same texts with the same tokenizer, one text after the other, in turn.

    Those that cannot read this kind are left out: tiktoken and our own read byte-level BPE, transformers may
    not be installed.

    Raises:
        TokenizerError: not a tokenizer.json, or libraries that disagree on a text.
    """
    made = _literal(library(file))
    runs: dict[str, Callable[[str], list[int]]] = {}
    try:
        ours = Tokenizer.from_file(file)
    except UnsupportedModel:
        pass
    else:
        runs[OURS] = ours.encode
        runs["tiktoken"] = tiktoken_of(file, ours).encode_ordinary
    runs["tokenizers"] = lambda text: made.encode(text, add_special_tokens=False).ids
    if (theirs := _transformers(made)) is not None:
        runs["transformers"] = theirs
    found = {name: [run(text) for text in texts] for name, run in runs.items()}
    for name, ids in found.items():
        if ids != found["tokenizers"]:
            where = next(i for i, (a, b) in enumerate(zip(ids, found["tokenizers"], strict=True)) if a != b)
            raise TokenizerError(
                f"{file}: {name} and tokenizers disagree on text {where}: {texts[where][:60]!r}"
            )
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            for text in texts:
                run(text)
            seconds[name].append(time.perf_counter() - start)
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    speeds = []
    for name, taken in seconds.items():
        ratios = [base / own for base, own in zip(seconds["tokenizers"], taken, strict=True)]
        spread = statistics.median(ratios), min(ratios), max(ratios)
        tokens = sum(map(len, found[name]))
        speeds.append(Speed(name, tokens, megabytes / statistics.median(taken), spread))
    return speeds


def tiktoken_of(file: Path, ours: Tokenizer) -> tiktoken.Encoding:
    """A plain `tiktoken.Encoding` with the tokenizer's own ids, for those who use tiktoken by itself.

    Raises:
        TokenizerError: ids that are not in the order of the merges, which a plain one cannot express.
    """
    ranks = {data: token for token, data in ours.ordinary.items()}
    try:
        encoding = tiktoken.Encoding(
            file.parent.name, pat_str=ours.pattern, mergeable_ranks=ranks, special_tokens=ours.special
        )
    except (ValueError, AssertionError) as error:
        raise TokenizerError(f"{file}: tiktoken does not take it: {error}") from error
    return encoding


def _transformers(made: Library) -> Callable[[str], list[int]] | None:
    try:
        from transformers import PreTrainedTokenizerFast
    except ImportError:
        return None
    theirs = PreTrainedTokenizerFast(tokenizer_object=made)  # type: ignore[no-untyped-call]

    def encode(text: str) -> list[int]:
        ids: list[int] = theirs.encode(text, add_special_tokens=False, split_special_tokens=True)
        return ids

    return encode
