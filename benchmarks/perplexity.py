"""Perplexity of SmolLM2-135M-Instruct on wikitext-2's validation text: our kernels against transformers.

    python -m benchmarks.perplexity [--tokens 20000] [--window 1024] [--stride 512] [--kernel auto]

Both score the same tokens of `LOREBASE_DATA` over the same sliding window, each token once; transformers in
float32 with the same weights. The last line is JSON.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import os
import sys
import tempfile
from pathlib import Path

import torch

from ingest.settings import find_home
from model import checkpoint, install
from model.engine import Engine
from model.evaluate.perplexity import surprise
from model.formats import hf

MODEL = "smollm2-135m-instruct"
FILE = Path(os.environ.get("LOREBASE_DATA", "../shared/data")) / "pretrain" / "wikitext2_valid.txt.gz"


def theirs(base: checkpoint.Checkpoint, ids: list[int], window: int, stride: int) -> float:
    """Nats a token by transformers, over the windows of its guide to perplexity."""
    from transformers import AutoModelForCausalLM

    nats, done = 0.0, 1
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        model = AutoModelForCausalLM.from_pretrained(hf.write(base, Path(folder) / "hf", dtype="fp32"))
        while done < len(ids):
            reached = window if done == 1 else done + stride
            begin, end = reached - window, min(reached, len(ids))
            seen = torch.tensor([ids[begin:end]])
            logs = model(seen).logits[0, done - begin - 1 : -1].log_softmax(-1)
            nats -= float(logs.gather(1, seen[0, done - begin :, None]).sum())
            done = end
    return nats / (len(ids) - 1)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokens", type=int, default=20_000)
    parser.add_argument("--window", type=int, default=1024)
    parser.add_argument("--stride", type=int, default=512)
    parser.add_argument("--kernel", default="auto")
    args = parser.parse_args()
    if not FILE.is_file():
        print(f"{FILE} is not there; set LOREBASE_DATA", file=sys.stderr)
        return 2
    text = gzip.decompress(FILE.read_bytes()).decode()
    base = checkpoint.load(install.find(MODEL, find_home()))
    engine = Engine.from_checkpoint(base, kernel=args.kernel)
    ours = surprise(engine, text, window=args.window, stride=args.stride, max_tokens=args.tokens)
    other = theirs(base, engine.tokenizer.encode(text)[: args.tokens], args.window, args.stride)
    print(f"{ours.tokens} tokens: ours {ours.perplexity:.3f} ({engine.kernels}), transformers {math.exp(other):.3f}, "
          f"difference {ours.nats / ours.tokens - other:+.5f} nats a token; {ours.bits_per_byte:.4f} bits per byte")  # fmt: skip
    print(json.dumps({"tokens": ours.tokens, "ours": ours.perplexity, "transformers": math.exp(other),
                      "bits_per_byte": ours.bits_per_byte, "kernels": str(engine.kernels)}))  # fmt: skip
    return 0 if abs(ours.nats / ours.tokens - other) < 0.01 else 1


if __name__ == "__main__":
    sys.exit(main())
