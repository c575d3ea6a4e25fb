"""Text to token ids and back: a `tiktoken.Encoding` built from the checkpoint's own merges and pre-tokenizer.

`tokenizer.json` is Hugging Face's format. From it come the byte-level alphabet (every byte stands as one
printable character), the merges in order, and the pre-tokenizer, which is turned into one regular expression.

Behaviour that callers rely on, all of it tested against the `tokenizers` library on the same file:

* Text is only ever text. A control token's name inside it (`<|im_end|>` in a document) is encoded letter by
  letter; control tokens enter by id, from `model.chat`.
* Every string encodes, and none can bring the process down. tiktoken panics, with an exception that `except
  Exception` does not see, on a byte that the vocabulary lacks (SmolLM2's lacks 21). The bytes of those that
  text can hold stand for six control characters and for the empty Unicode planes 4 to 11; such characters are
  dropped, as `tokenizers` drops the control characters. It also panics on very long runs of white space,
  which are therefore cut (`LONGEST_RUN`).
* Merge order decides what is merged, vocabulary ids only name the result; where the two orders differ, ids
  are mapped.
"""

from __future__ import annotations

import codecs
import json
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import regex
import tiktoken

from model.errors import TokenizerError, UnsupportedModel

_CONTRACTIONS = r"'s|'t|'re|'ve|'m|'ll|'d"
#: What Hugging Face's ByteLevel splits along: the pattern of GPT-2.
BYTE_LEVEL = rf"{_CONTRACTIONS}| ?\p{{L}}+| ?\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+|\s+(?!\S)|\s+"
#: The same behind Digits(individual): each digit stands alone, and white space before one counts as the end
#: of a text.
DIGITS_BYTE_LEVEL = rf"{_CONTRACTIONS}| ?\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+|\s+(?![^\s\p{{N}}])|\s+"

#: tiktoken's regular expressions overflow their stack somewhere above this many characters of white space in
#: a row.
LONGEST_RUN = 100_000
_LONG_RUN = re.compile(rf"\s{{{LONGEST_RUN}}}")


def byte_alphabet() -> dict[str, int]:
    """The printable character that stands for each byte in a byte-level vocabulary (GPT-2's table)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


class Tokenizer:
    """Byte-level BPE. Immutable, and safe to share between threads."""

    def __init__(
        self,
        vocabulary: dict[str, int],
        merges: Sequence[tuple[str, str]],
        *,
        pattern: str = BYTE_LEVEL,
        special: dict[str, int] | None = None,
        spoken: Collection[str] = (),
        normal_form: str | None = None,
        opening: Sequence[int] = (),
    ) -> None:
        """Build from byte-level strings.

        Args:
            vocabulary: token, written in the byte alphabet, to id; may include the control tokens.
            merges: pairs in order of priority.
            pattern: regular expression whose matches are merged apart from each other.
            special: control tokens, as text, to id.
            spoken: those of them that are words added later: no text becomes one, but a reply shows them.
            normal_form: Unicode normal form applied first, such as "NFC".
            opening: ids that stand in front of a plain text, see `begin`.

        Raises:
            TokenizerError: a merge without its parts or its result in the vocabulary.
        """
        self.special = dict(special or {})
        self.pattern, self.normal_form = pattern, normal_form
        self.opening = tuple(opening)
        alphabet = byte_alphabet()
        control = set(self.special.values())

        def spelled(token: str) -> bytes:
            try:
                return bytes(alphabet[sign] for sign in token)
            except KeyError as error:
                raise TokenizerError(
                    f"token {token!r} holds {error.args[0]!r}, which stands for no byte"
                ) from error

        self._bytes = {i: spelled(t) for t, i in vocabulary.items() if i not in control}
        self._specials = {i: text.encode() for text, i in self.special.items()}
        self._spoken = {self.special[text]: text.encode() for text in spoken}
        singles = [token for token in vocabulary if len(token) == 1 and token in alphabet]
        # Rank is priority. Single bytes go first: tiktoken never merges into them.
        order = dict.fromkeys(sorted(singles, key=vocabulary.__getitem__))
        for left, right in merges:
            if left not in vocabulary or right not in vocabulary or left + right not in vocabulary:
                raise TokenizerError(f"merge {left!r} + {right!r}: part or result is not in the vocabulary")
            order.setdefault(left + right)
        self._ids = [vocabulary[token] for token in order]
        ranks = {spelled(token): rank for rank, token in enumerate(order)}
        self._bpe = tiktoken.Encoding("lorebase", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
        self._pieces = regex.compile(pattern)
        self._untokenizable = _characters_with({byte for byte in range(256) if bytes([byte]) not in ranks})

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read a `tokenizer.json`.

        Raises:
            TokenizerError: not such a file, or parts that do not fit together.
            UnsupportedModel: a kind of tokenizer other than byte-level BPE.
        """
        try:
            return cls._read(path)
        except (
            OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, regex.error
        ) as error:  # fmt: skip
            raise TokenizerError(f"{path}: not a byte-level BPE tokenizer.json ({error!r:.200})") from error

    @classmethod
    def _read(cls, path: Path) -> Self:
        """`from_file`, with whatever a file of other values raises."""
        spec: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        bpe = spec["model"]
        if bpe.get("type", "BPE") != "BPE":
            raise UnsupportedModel(f"{path}: only byte-level BPE tokenizers are supported")
        vocabulary: dict[str, int] = bpe["vocab"]
        merges = [_pair(merge) for merge in bpe["merges"]]
        if bpe.get("byte_fallback") or bpe.get("continuing_subword_prefix"):
            raise UnsupportedModel(f"{path}: only byte-level BPE tokenizers are supported")
        tokens = spec.get("added_tokens", [])
        added = {token["content"]: token["id"] for token in tokens}
        return cls(
            vocabulary,
            merges,
            pattern=_pattern(spec.get("pre_tokenizer"), path),
            special=added,
            spoken=[token["content"] for token in tokens if not token.get("special", True)],
            normal_form=_normal_form(spec.get("normalizer"), path),
            opening=_opening(spec.get("post_processor")),
        )

    @property
    def vocab_size(self) -> int:
        """One more than the highest id."""
        return max((*self._bytes, *self._specials), default=-1) + 1

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, in which nothing is a control token."""
        if self.normal_form:
            text = unicodedata.normalize(self.normal_form, text)  # type: ignore[arg-type]
        ids = self._ids
        return [ids[rank] for part in _without_long_runs(text) for rank in self._ranks(part)]

    def begin(self, text: str) -> list[int]:
        """Ids of a whole text that is to be scored or continued: behind BOS, where the model has one."""
        return [*self.opening, *self.encode(text)]

    def count(self, text: str) -> int:
        """Number of ids of `text`."""
        return len(self.encode(text))

    @property
    def ordinary(self) -> Mapping[int, bytes]:
        """The bytes of every id that stands for text; control tokens are left out."""
        return self._bytes

    def token_bytes(self, token: int) -> bytes:
        """The bytes that an id stands for; for a control token its name's.

        Raises:
            TokenizerError: no such id.
        """
        known = self._bytes.get(token)
        if known is None:
            known = self._specials.get(token)
        if known is None:
            raise TokenizerError(f"token id {token} is not in the vocabulary of {self.vocab_size}")
        return known

    def decode_bytes(self, ids: Iterable[int], *, special: bool = False) -> bytes:
        """The bytes of `ids`; control tokens vanish unless `special`, words that were added do not.

        Ids without a token are nothing, as for `tokenizers`: a decoder may have more rows than there are
        tokens (Qwen2.5 has 271 more), and one drawn at a high temperature must not end a reply.
        """
        named = self._specials if special else self._spoken
        return b"".join(self._bytes.get(i) or named.get(i, b"") for i in ids)

    def decode(self, ids: Iterable[int], *, special: bool = False) -> str:
        """The text of `ids`; bytes that are no UTF-8 become U+FFFD."""
        return self.decode_bytes(ids, special=special).decode("utf-8", errors="replace")

    def stream(self) -> StreamDecoder:
        """A decoder for ids that arrive one at a time."""
        return StreamDecoder(self)

    @cached_property
    def _whole(self) -> tiktoken.Encoding:
        """The same merges over a whole text as one piece; rarely needed, and as large as the other."""
        ranks = {self._bytes[token]: rank for rank, token in enumerate(self._ids)}
        return tiktoken.Encoding(
            "lorebase-piece", pat_str=r"(?s).+", mergeable_ranks=ranks, special_tokens={}
        )

    def _ranks(self, text: str) -> list[int]:
        if self._untokenizable is None or not self._untokenizable.search(text):
            return self._bpe.encode_ordinary(text)
        # Split first, then drop: a dropped character still separates the words around it, as in `tokenizers`.
        pieces = (self._untokenizable.sub("", match.group()) for match in self._pieces.finditer(text))
        return [rank for piece in pieces for rank in self._whole.encode_ordinary(piece)]


class StreamDecoder:
    """Text of ids that arrive one at a time; half a character waits for its other half."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> str:
        """The text that this token completes, often all of it, sometimes none; none for a control token."""
        return self._decoder.decode(self._tokenizer.decode_bytes([token]))

    def finish(self) -> str:
        """What is left: U+FFFD if the last character never became whole."""
        return self._decoder.decode(b"", final=True)


def _opening(post: dict[str, Any] | None) -> list[int]:
    """The ids that a post-processor puts in front of a text: BOS in the Llama family, none in most others."""
    found: list[int] = []
    for one in (post or {}).get("processors") or [post or {}]:
        if one.get("type") != "TemplateProcessing":
            continue
        for item in one["single"]:
            if "Sequence" in item:
                break
            found += one["special_tokens"][item["SpecialToken"]["id"]]["ids"]
    return found


def _pair(merge: str | Sequence[str]) -> tuple[str, str]:
    """One merge: "a b" in older files, ["a", "b"] in newer ones."""
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _pattern(spec: dict[str, Any] | None, path: Path) -> str:
    """One regular expression that cuts as the file's pre-tokenizer does."""
    steps = [] if spec is None else spec["pretokenizers"] if spec.get("type") == "Sequence" else [spec]
    kinds = [step.get("type") for step in steps]
    if kinds and kinds[-1] == "ByteLevel" and not steps[-1].get("add_prefix_space", False):
        if kinds == ["ByteLevel"] and steps[0].get("use_regex", True):
            return BYTE_LEVEL
        if (
            kinds == ["Digits", "ByteLevel"]
            and steps[0].get("individual_digits")
            and steps[1].get("use_regex", True)
        ):
            return DIGITS_BYTE_LEVEL
        if kinds == ["Split", "ByteLevel"] and not steps[1].get("use_regex", True):
            split = steps[0]
            isolated = split.get("behavior") == "Isolated" and not split.get("invert", False)
            if isolated and "Regex" in split["pattern"]:
                return str(split["pattern"]["Regex"])
    raise UnsupportedModel(
        f"{path}: pre-tokenizer {kinds or 'none'} with these settings is not supported; "
        "supported are ByteLevel, Digits(individual) + ByteLevel, and Split(Regex, Isolated) + ByteLevel"
    )


def _normal_form(spec: dict[str, Any] | None, path: Path) -> str | None:
    if spec is not None and spec.get("type") == "Sequence" and len(spec.get("normalizers", [])) < 2:
        spec = next(iter(spec.get("normalizers", [])), None)  # DeepSeek's way of saying none
    if spec is None:
        return None
    if spec.get("type") in {"NFC", "NFD", "NFKC", "NFKD"}:
        return str(spec["type"])
    raise UnsupportedModel(f"{path}: normalizer {spec.get('type')!r} is not supported")


def _characters_with(missing: set[int]) -> re.Pattern[str] | None:
    """Matches the characters whose UTF-8 form (RFC 3629) has one of these bytes; None if none has."""
    if any(0x80 <= byte < 0xC0 for byte in missing):
        raise UnsupportedModel(
            "the vocabulary lacks continuation bytes of UTF-8: most characters would have no token"
        )
    ranges = [(byte, byte) for byte in missing if byte < 0x80]
    for lead in (byte for byte in missing if 0xC2 <= byte <= 0xF4):  # C0, C1 and F5 to FF stand in no text
        bits, low = (6, 0x80) if lead < 0xE0 else (12, 0x800) if lead < 0xF0 else (18, 0x10000)
        high = lead & (0x1F if bits == 6 else 0x0F if bits == 12 else 0x07)
        ranges.append((max(high << bits, low), min(((high + 1) << bits) - 1, 0x10FFFF)))
    signs = "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in sorted(ranges))
    return re.compile(f"[{signs}]") if ranges else None


def _without_long_runs(text: str) -> list[str]:
    """`text` in parts, none with a run of white space that overflows tiktoken's regular expressions."""
    parts, start = [], 0
    for run in _LONG_RUN.finditer(text):
        parts.append(text[start : run.end()])
        start = run.end()
    return [*parts, text[start:]]
