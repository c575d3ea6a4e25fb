"""Our embedder against sentence-transformers at its default precision: same model, same passages, same threads.

    python -m benchmarks.embedding [--model NAME] [--passages 96] [--rounds 5]

Claim: at least 1.8 times at cosine >= 0.9999, where the start-up probe finds that bf16 pays. `--model onnx/NAME` is the
int8 graph of the same weights; its cosines are lower.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks.measure import interleave, ratio
from ingest.embed import SentenceTransformerEmbedder
from ingest.embed.finding import embedder_named
from ingest.settings import IngestSettings, find_home


def passages(count: int) -> list[str]:
    """Stretches of about 200 tokens from the manual, repeated with another first word where it runs out."""
    text = "\n".join(p.read_text(encoding="utf-8") for p in sorted(Path("docs").glob("*.md")))
    size = 850
    cuts = [text[i : i + size] for i in range(0, len(text) - size, size)]
    return [f"{i} {cuts[i % len(cuts)]}" for i in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="multilingual-e5-small")
    parser.add_argument("--passages", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    texts = passages(args.passages)

    from sentence_transformers import SentenceTransformer

    ours = embedder_named(args.model, find_home(), IngestSettings())
    assert isinstance(ours, SentenceTransformerEmbedder), f"{args.model} has no weights here to compare with"
    peer = SentenceTransformer(str(ours.folder), device="cpu", local_files_only=True)
    prompt = peer.prompts.get("passage", "") if peer.prompts else ""

    def theirs() -> np.ndarray:
        return peer.encode(texts, prompt=prompt, normalize_embeddings=True)

    rates = interleave(
        {"lorebase": len(texts), "sentence-transformers": len(texts)},
        {"lorebase": lambda: ours.encode_passages(texts), "sentence-transformers": theirs},
        args.rounds,
    )
    cosines = (ours.encode_passages(texts) * theirs()).sum(axis=1)
    for name, rate in rates.items():
        print(f"{name:24} {rate} passages/s")
    print(f"ratio                    {ratio(rates['lorebase'], rates['sentence-transformers'])}")
    print(f"cosine                   least {cosines.min():.6f}, mean {cosines.mean():.6f}, n = {len(texts)}")
    print(f"chosen by the probe      {getattr(ours, 'precision', '?')}")


if __name__ == "__main__":
    main()
