"""nanoGPT's character-level Shakespeare: the same text, the same split, its published settings, on our loop.

    python -m benchmarks.char_shakespeare                  its CPU configuration: validation loss at most 1.88
    python -m benchmarks.char_shakespeare --gpu            its GPU configuration: at most 1.4697 (best of the run)
    python -m benchmarks.char_shakespeare --shape llama    the same sizes with rotary positions, RMSNorm, SwiGLU

The CPU configuration has 4 layers, 4 heads, width 128, context 64, 12 windows a step, 2,000 steps, no dropout;
the GPU one 6 layers, 6 heads, width 384, context 256, 64 windows, 5,000 steps, dropout 0.2. Both: AdamW with
betas 0.9 and 0.99, weight decay 0.1, rate 1e-3 after 100 steps of warm-up, by a cosine to 1e-4, clipped at 1.

The first 90% of the characters are trained on, the last 10% validate, all of them and not a sample; each is
predicted once, from at most a context before it. Our vocabulary has 259 tokens where nanoGPT's has 65, the other
bytes and three control tokens, which never occur. `--shape gpt2` has biases, which nanoGPT's default leaves out.
The run stands in the data folder and is gone on with where it was stopped. One line of JSON ends it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from ingest.settings import find_home
from model.__main__ import main as model_command
from model.train import runs

TEXT = "pretrain/tinyshakespeare.txt.gz"
#: preset, windows a step, steps, steps between validations, loss to reach
CPU = ("nano-char", 12, 2000, 250, 1.88)
GPU = ("nano-char-large", 64, 5000, 250, 1.4697)


def command(*words: object) -> None:
    if status := model_command([str(word) for word in words]):
        sys.exit(status)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, help="data folder; default: the one in use")
    parser.add_argument("--gpu", action="store_true", help="the GPU configuration")
    parser.add_argument("--shape", choices=("gpt2", "llama"), default="gpt2")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    home = (args.home or find_home()).resolve()
    data = Path(os.environ.get("LOREBASE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    text = data / TEXT
    if not text.is_file():
        sys.exit(f"{text} is not there; set LOREBASE_DATA")
    preset, batch, steps, every, wanted = GPU if args.gpu else CPU
    preset += "-gpt2" if args.shape == "gpt2" else ""
    name = f"{preset}-{args.seed}"
    if not (home / "tokenizers" / "shakespeare-char").exists():
        command("tokenizer", "train", text, "--kind", "char", "--name", "shakespeare-char", "--home", home)
    if (home / "runs" / name / "config.json").is_file():
        if runs.find(home, name).status()["state"] != "finished":
            command("pretrain", "--resume", name, "--home", home)
    else:
        command(
            "pretrain", "--home", home, "--name", name, "--preset", preset, "--tokenizer", "shakespeare-char",
            "--dataset", text, "--val_size", 0.1, "--max_steps", steps, "--eval_steps", every, "--save_steps", every,
            "--per_device_train_batch_size", batch, "--per_device_eval_batch_size", 64, "--learning_rate", 1e-3,
            "--min_lr_ratio", 0.1, "--warmup_ratio", 100 / steps, "--weight_decay", 0.1, "--adam_beta2", 0.99,
            "--max_grad_norm", 1.0, "--seed", args.seed, *(() if args.gpu else ("--compute_type", "fp32")),
        )  # fmt: skip
    this = runs.find(home, name)
    judged = [event for event in this.metrics() if "eval_loss" in event]
    best = min(judged, key=lambda event: event["eval_loss"])
    told = {
        "run": name, "best_loss": round(best["eval_loss"], 4), "at_step": best["step"],
        "last_loss": round(judged[-1]["eval_loss"], 4), "bits_per_byte": round(best["bits_per_byte"], 4),
        "wanted": wanted, "reached": best["eval_loss"] <= wanted, "seconds": this.status().get("seconds"),
    }  # fmt: skip
    print(json.dumps(told))
    sys.exit(not told["reached"])


if __name__ == "__main__":
    main()
