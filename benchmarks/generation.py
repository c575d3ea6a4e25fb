"""Our engine against transformers on the same weights, prompt and threads: prefill and decode.

    python -m benchmarks.generation [--home HOME] [--prompt 1000] [--new 48] [--rounds 5] [--threads N]

Claims: prefill at least 1.0 and decode at least 2.0 times of transformers' better precision (float32 or
bf16); the engine alone stays well under 700 MB. Decoding is greedy, token by token, with transformers' own
cache and without the overhead of its `generate`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import Rate, memory_mb, ratio
from ingest.settings import find_home
from model import checkpoint
from model.checkpoint import Checkpoint
from model.engine import Engine
from model.quantized import dense

#: Native part of a tensor's name -> transformers' part, Llama family.
NAMES = {
    "embed": "model.embed_tokens", "norm": "model.norm", "blocks": "model.layers",
    "attn_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm", "attn": "self_attn",
    "q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "o_proj",
    "gate": "gate_proj", "up": "up_proj", "down": "down_proj",
}  # fmt: skip

#: Seconds to read the prompt, seconds to write the reply.
Run = Callable[[list[int], int], tuple[float, float]]


def as_transformers(loaded: Checkpoint, dtype: torch.dtype = torch.float32) -> Any:
    """The same weights, dequantized in float32 and rounded once, as a transformers LlamaForCausalLM."""
    import transformers

    c = loaded.config
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=c.vocab_size, hidden_size=c.d_model, intermediate_size=c.d_mlp, head_dim=c.head_dim,
            num_hidden_layers=c.n_layers, num_attention_heads=c.n_heads, num_key_value_heads=c.n_kv_heads,
            max_position_embeddings=c.context_length, rms_norm_eps=c.norm_eps,
            tie_word_embeddings=c.tied_head,
            rope_parameters={"rope_type": "default", "rope_theta": c.rope_theta},
            bos_token_id=c.bos_id, eos_token_id=list(c.eos_ids), pad_token_id=c.pad_id,
        )
    )  # fmt: skip
    state = {
        ".".join(NAMES.get(part, part) for part in name.split(".")): dense(weight)
        for name, weight in loaded.weights.items()
    }
    missing = model.load_state_dict(state, strict=False).missing_keys
    assert missing == (["lm_head.weight"] if c.tied_head else []), missing
    model.tie_weights()
    return model.to(dtype).eval()


def ours(engine: Engine) -> Run:
    def run(prompt: list[int], new: int) -> tuple[float, float]:
        start = time.perf_counter()
        logits, cache = engine.prefill([prompt])
        read = time.perf_counter()
        for _ in range(new):
            logits = engine.step([int(logits[0].argmax())], cache)
        return read - start, time.perf_counter() - read

    return run


def theirs(model: Any) -> Run:
    @torch.inference_mode()
    def run(prompt: list[int], new: int) -> tuple[float, float]:
        start = time.perf_counter()
        out = model(torch.tensor([prompt]), use_cache=True, logits_to_keep=1)
        read = time.perf_counter()
        for _ in range(new):
            token = out.logits[:, -1:].argmax(-1)
            out = model(token, past_key_values=out.past_key_values, use_cache=True)
        return read - start, time.perf_counter() - read

    return run


def text() -> str:
    """Enough of the manual to read."""
    return "\n".join(page.read_text(encoding="utf-8") for page in sorted(Path("docs").glob("*.md")))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, help="data folder; default: the one in use")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--prompt", type=int, default=1000, help="tokens of the prompt")
    parser.add_argument("--new", type=int, default=48, help="tokens decoded behind it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--kernel", default="auto")
    parser.add_argument(
        "--memory", action="store_true", help="only our engine, and its peak of resident memory"
    )
    args = parser.parse_args()
    folder = (args.home or find_home()) / "models" / args.model
    if args.threads:
        torch.set_num_threads(args.threads)
    engine = Engine.load(folder, kernel=args.kernel)
    prompt = engine.tokenizer.encode(text())[: args.prompt]
    if args.memory:
        ours(engine)(prompt, args.new)
        print(f"{memory_mb('VmRSS'):.0f} MB after, {memory_mb():.0f} MB at the peak (loading included)")
        return
    print(
        f"{engine.describe()}\n"
        f"{len(prompt)} tokens read, {args.new} written, {torch.get_num_threads()} threads"
    )
    again = [sys.executable, "-m", "benchmarks.generation", "--memory", *sys.argv[1:]]
    print(
        "resident, alone         ",
        subprocess.run(again, capture_output=True, text=True, check=True).stdout.strip(),
    )
    loaded = checkpoint.load(folder)
    runs = {
        "lorebase": ours(engine),
        "transformers float32": theirs(as_transformers(loaded)),
        "transformers bfloat16": theirs(as_transformers(loaded, torch.bfloat16)),
    }
    del loaded
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for run in runs.values():
        run(prompt[:100], 4)
    for _ in range(args.rounds):
        for name, run in runs.items():
            seconds[name].append(run(prompt, args.new))
    for phase, what, amount in ((0, "prefill", len(prompt)), (1, "decode", args.new)):
        rates = {name: Rate(tuple(amount / pair[phase] for pair in pairs)) for name, pairs in seconds.items()}
        for name, rate in rates.items():
            print(f"{what:8}{name:24} {rate} tokens/s")
        best = max((name for name in rates if name != "lorebase"), key=lambda name: rates[name].median)
        print(f"{what:8}{'ratio to the better':24} {ratio(rates['lorebase'], rates[best])}")


if __name__ == "__main__":
    main()
