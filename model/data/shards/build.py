"""Texts to shards: files of token ids beside a manifest that says what they are and whether they are whole.

    manifest.json          what was read, by which tokenizer, every shard with its count and SHA-256
    train-00000.bin ...    ids, little-endian, 2 bytes each where the vocabulary fits into them, else 4
    validation-00000.bin   the same of what validates

Behind every text stands the tokenizer's end-of-text token.

Invariants:

* A shard is written under another name, flushed and renamed, and only then named in the manifest, which is
  replaced in the same way. So a build that was killed goes on behind the last shard that is named there, and
  ends with the very files of a build that was not.
* What validates is never trained on. By `texts`, the hash of a text alone decides on which side it stands:
  equal texts stand on one side, whatever their file or order. By `tail`, the end of every text validates:
  for a few long texts, such as books.
* A manifest of other files, another tokenizer or other settings is another corpus: it is built anew.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from model.data.shards.config import CorpusConfig
from model.data.shards.texts import Problems, files, kind, texts
from model.errors import DataError
from model.folder import sha256_file, stem, write_file
from model.tokenizer import Tokenizer

MANIFEST, FORMAT, VERSION = "manifest.json", "lorebase-shards", 2
SIDES = ("train", "validation")
#: Raw texts from which on whole ones validate.
MANY = 100
#: Characters that are encoded at once: as Python's numbers, ids take thirty times their place on the disk.
PIECE = 1_000_000
#: Where a text may be cut without changing how its parts are encoded: a line ends in a word, the next begins
#: with one. Every pre-tokenizer known here cuts there by itself.
_SAFE = re.compile(r"(?<=\w\n)(?=\w)")


@dataclass(slots=True)
class _Side:
    """Ids of one side that are not written yet, and what was."""

    name: str
    dtype: np.dtype[Any]
    pending: list[NDArray[Any]] = field(default_factory=list)
    held: int = 0
    described: dict[str, Any] = field(
        default_factory=lambda: {"tokens": 0, "bytes": 0, "texts": 0, "shards": []}
    )

    def add(self, text: str, tokenizer: Tokenizer, end: int) -> None:
        """One text and its end."""
        for piece in pieces(text):
            self.pending.append(np.asarray(tokenizer.encode(piece), self.dtype))
            self.held += len(self.pending[-1])
        self.pending.append(np.asarray([end], self.dtype))
        self.held += 1
        self.described["texts"] += 1
        self.described["bytes"] += len(text.encode())

    def flush(self, folder: Path) -> None:
        """What is pending becomes a shard."""
        if not self.held:
            return
        name = f"{self.name}-{len(self.described['shards']):05d}.bin"
        ids = np.concatenate(self.pending)
        write_file(folder / name, ids.tobytes())
        digest = hashlib.sha256(ids.tobytes()).hexdigest()
        self.described["shards"].append({"file": name, "tokens": len(ids), "sha256": digest})
        self.described["tokens"] += len(ids)
        self.pending, self.held = [], 0


def pieces(text: str) -> Iterator[str]:
    """`text` in parts whose ids, one after the other, are the ids of the whole."""
    start = 0
    while len(text) - start > PIECE:
        cut = _SAFE.search(text, start + PIECE)
        if cut is None:
            break
        yield text[start : cut.start()]
        start = cut.start()
    yield text[start:]


def build(
    config: CorpusConfig,
    tokenizer_file: Path,
    shelf: Path,
    say: Callable[[str], None] = lambda line: None,  # noqa: ARG005
) -> Path:
    """The folder below `shelf` with the shards of a corpus; made, gone on with, or there already.

    Raises:
        DataError: nothing to read, no text left on one side, no end-of-text token, or a full disk.
        TokenizerError, UnsupportedModel: a tokenizer that cannot be used.
    """
    found = files(config.dataset)
    identity = _identity(found, config, tokenizer_file)
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    target = shelf / f"{stem(config.dataset[0], 'corpus')}-{digest[:16]}"
    try:
        target.mkdir(parents=True, exist_ok=True)
        with FileLock(shelf / f".{target.name}.lock"):
            manifest = read_manifest(target)
            if manifest is None or not manifest["complete"]:
                _write(
                    target,
                    identity,
                    manifest,
                    found=found,
                    config=config,
                    tokenizer_file=tokenizer_file,
                    say=say,
                )
    except OSError as error:
        raise DataError(f"{target} cannot be written: {error}. Check free space and permissions") from error
    return target


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a folder of shards; None where there is none that can be gone on with."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    known = isinstance(manifest, dict) and manifest.get("format") == FORMAT
    return manifest if known and manifest.get("version") == VERSION else None


def _identity(found: Sequence[Path], config: CorpusConfig, tokenizer_file: Path) -> dict[str, Any]:
    """What decides the ids: files, tokenizer, settings."""
    return {
        "sources": [{"file": p.name, "bytes": p.stat().st_size, "sha256": sha256_file(p)} for p in found],
        "tokenizer": sha256_file(tokenizer_file),
        "column": config.column,
        "separate": config.separate,
        "val_size": config.val_size,
        "val_split": _rule(found, config),
        "shard_tokens": config.shard_tokens,
    }


def _rule(found: Sequence[Path], config: CorpusConfig) -> str:
    if config.val_split != "auto":
        return config.val_split
    whole = config.separate == "file" and all(kind(path) in ("text", None) for path in found)
    return "tail" if whole and len(found) < MANY else "texts"


def _write(
    target: Path,
    identity: Mapping[str, Any],
    former: Mapping[str, Any] | None,
    *,
    found: Sequence[Path],
    config: CorpusConfig,
    tokenizer_file: Path,
    say: Callable[[str], None],
) -> None:
    tokenizer = Tokenizer.from_file(tokenizer_file)
    end = end_of_text(tokenizer, tokenizer_file)
    dtype = np.dtype("<u2" if tokenizer.vocab_size <= 2**16 else "<u4")
    sides = {name: _Side(name, dtype) for name in SIDES}
    problems, at, behind = Problems(), 0, 0
    if former is not None:
        at, behind = former["next"]
        problems = Problems(list(former["left_out"]["lines"]), former["left_out"]["count"])
        for name, side in sides.items():
            side.described = former[name]
        say(f"going on with {target.name} at file {at + 1} of {len(found)}")
    else:
        for left in target.glob("*.bin"):
            left.unlink()

    def publish(*, complete: bool = False) -> None:
        """Everything so far; of the file that is being read, problems are found again after a restart."""
        manifest = {
            "format": FORMAT, "version": VERSION, "complete": complete, "next": [at, behind],
            "vocab_size": tokenizer.vocab_size, "dtype": dtype.str, "end_of_text": end, **identity,
            "left_out": {"count": before.count, "lines": before.lines},
            **{name: side.described for name, side in sides.items()},
        }  # fmt: skip
        write_file(target / MANIFEST, json.dumps(manifest, indent=1).encode())

    for number in range(at, len(found)):
        skipped, before = behind if number == at else 0, Problems(list(problems.lines), problems.count)
        source = texts(found[number], column=config.column, separate=config.separate, problems=problems)
        for count, text in enumerate(source, 1):
            if count <= skipped:
                continue
            for name, part in _sides(text, identity["val_split"], config.val_size):
                sides[name].add(part, tokenizer, end)
            if max(side.held for side in sides.values()) >= config.shard_tokens:
                for side in sides.values():
                    side.flush(target)
                at, behind = number, count
                publish()
    at, behind, before = len(found), 0, problems
    for side in sides.values():
        side.flush(target)
    for name in SIDES if config.val_size else SIDES[:1]:
        if sides[name].described["tokens"] < 2:
            shutil.rmtree(target)
            raise DataError(_nothing(name, found, config, problems))
    publish(complete=True)


def _nothing(side: str, found: Sequence[Path], config: CorpusConfig, problems: Problems) -> str:
    what = "to train on" if side == "train" else "to validate on"
    advice = problems.lines[0] if problems.lines else "the texts are empty"
    if side == "validation" and not problems.lines:
        advice = f"with so few texts give val_split tail, or another val_size than {config.val_size}"
    return f"no text is left {what} in {', '.join(path.name for path in found[:3])}: {advice}"


def _sides(text: str, rule: str, share: float) -> Iterator[tuple[str, str]]:
    """On which side a text, or which part of it, stands."""
    if rule == "texts":
        plain = " ".join(unicodedata.normalize("NFKC", text).split())
        place = int.from_bytes(hashlib.sha256(plain.encode("utf-8", "replace")).digest()[:8]) / 2**64
        yield ("validation" if place < share else "train"), text
        return
    cut = int(len(text) * (1 - share))
    for name, part in zip(SIDES, (text[:cut], text[cut:]), strict=True):
        if part:
            yield name, part


def end_of_text(tokenizer: Tokenizer, file: Path) -> int:
    """The id that stands between independent texts.

    Raises:
        DataError: the tokenizer has none.
    """
    for name in ("<|endoftext|>", "<|end▁of▁sentence|>"):
        if name in tokenizer.special:
            return tokenizer.special[name]
    raise DataError(
        f"{file} has no <|endoftext|> token to stand between texts; "
        "train one: python -m model tokenizer train --kind bpe FILES"
    )
