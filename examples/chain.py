"""The whole chain in one script: a set of conversations becomes a model that other programs and the service run.

    python examples/chain.py            on SmolLM2-135M-Instruct, with the 90 rows of identity.json: minutes
    python examples/chain.py --tiny     on a tiny random model, with a few rows: seconds (the tests run it)

Each step is a command that you could type yourself, and each is checked:

1. data check        the set has no row that could not be trained on
2. model sft         the adapter changes what the model says
3. model merge       the merged model says what base and adapter say
4. model export      a Hugging Face folder, and a GGUF with its Modelfile
5. transformers and llama.cpp load them and write the same tokens, greedily, as our engine
6. the service answers under the merged model's name with what `model generate` writes

Needs what the tests need (`pip install 'lorebase[test]'`): transformers and xllamacpp.
"""

from __future__ import annotations

import os

# As the commands set it, before torch is imported: threads that wait give their core away.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

import argparse
import contextlib
import io
import json
import shlex
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import torch
import uvicorn

from ingest.settings import find_home
from model import checkpoint, template_export
from model.__main__ import main as model_command
from model.chat import END, START, ChatTemplate
from model.config import GPTConfig, Sampling
from model.engine import Engine
from model.gpt import GPT
from model.tokenizer import Tokenizer
from service.app import create_app
from service.prompt import SYSTEM_CLOSED_BOOK
from service.settings import ServiceSettings

HERE = Path(__file__).resolve().parent
DATASET = "identity"  #: in the folder's dataset_info.json
QUESTIONS = ("Who are you?", "Who made you?", "你是谁？", "谁开发了你？", "What is the capital of France?")
#: One kernel everywhere: where two tokens are about equally likely, another one's rounding would choose.
KERNEL = "float32"
TRAINING = {"learning_rate": 5e-4, "num_train_epochs": 6, "per_device_train_batch_size": 4, "seed": 0}
TINY_TRAINING = {
    "lora_rank": 16,
    "lora_alpha": 32,
    "learning_rate": 0.01,
    "max_steps": 80,
    "compute_type": "fp32",
    "seed": 0,
}


class Broken(SystemExit):
    """A link of the chain does not hold."""


def main(argv: list[str] | None = None) -> int:
    """Run the chain; 0 where it holds."""
    parser = argparse.ArgumentParser(
        description="dataset -> LoRA -> merge -> export -> other programs -> /ask"
    )
    parser.add_argument("--tiny", action="store_true", help="a tiny random model and a few steps")
    parser.add_argument("--home", type=Path, help="data folder; with --tiny a temporary one")
    parser.add_argument("--model", default="smollm2-135m-instruct", help="installed base (not with --tiny)")
    parser.add_argument(
        "--name", default=time.strftime("chain-%m%d-%H%M%S"), help="of run, adapter and model"
    )
    parser.add_argument("--max-tokens", type=int, default=48, help="length of the compared replies")
    given = parser.parse_args(argv)
    with contextlib.ExitStack() as stack:
        home = given.home or (
            Path(stack.enter_context(tempfile.TemporaryDirectory())) if given.tiny else find_home()
        )
        base, folder, training = given.model, HERE, TRAINING
        if given.tiny:
            base, training = "tiny", TINY_TRAINING
            torch.set_num_threads(1)  # products this small run faster alone than shared out
            folder = make_tiny(home, base)
        started = time.monotonic()
        chain(home.resolve(), base, given.name, folder, training=training, max_tokens=given.max_tokens)
        say(f"the chain holds, after {time.monotonic() - started:.0f} s")
    return 0


def chain(
    home: Path, base: str, name: str, folder: Path, *, training: dict[str, Any], max_tokens: int
) -> None:
    """Every step and its check.

    Raises:
        Broken: a check failed; says which.
    """
    engine = Engine.load(home / "models" / base, kernel=KERNEL)
    before = replies(engine, max_tokens)

    step(1, "the set of conversations")
    run("data", "check", DATASET, "--dataset-dir", folder, "--model", base, home=home)

    step(2, "fine-tune with an adapter")
    knobs = [part for key, value in training.items() for part in (f"--{key}", value)]
    run(
        "sft",
        "--model",
        base,
        "--dataset",
        DATASET,
        "--dataset-dir",
        folder,
        "--name",
        name,
        *knobs,
        home=home,
    )
    adapted = [generate(home, base, question, max_tokens, "--adapter", name) for question in QUESTIONS]
    check(adapted != [generate(home, base, q, max_tokens) for q in QUESTIONS], "the adapter changes replies")
    picture = home / "runs" / name / "loss.png"
    check(picture.is_file(), f"the loss is drawn in {picture}")

    step(3, "fold it into the base")
    run("merge", name, "--name", name, home=home)
    engine = Engine.load(home / "models" / name, kernel=KERNEL)
    after = replies(engine, max_tokens)
    for question, old, new in zip(QUESTIONS, before, after, strict=True):
        say(f"  {question}\n    before: {one_line(old)}\n    after:  {one_line(new)}")

    step(4, "export")
    run("export", name, "--format", "hf", "--dtype", "fp32", home=home)
    run("export", name, "--format", "gguf", home=home)
    hf, gguf = (home / "exports" / f"{name}-{form}" for form in ("hf", "gguf"))

    step(5, "other programs write the same tokens")
    prompts = [engine.prompt([{"role": "user", "content": question}]) for question in QUESTIONS]
    ours = [greedy(engine, prompt, max_tokens) for prompt in prompts]
    ends = set(engine.config.eos_ids)
    for program, theirs in (
        ("transformers", by_transformers(hf, prompts, max_tokens)),
        ("llama.cpp", by_llama_cpp(gguf / f"{name}-f16.gguf", prompts, max_tokens)),
    ):
        for question, mine, other in zip(QUESTIONS, ours, theirs, strict=True):
            check(
                until(mine, ends) == until(other, ends),
                f"{program}, {question!r}: {len(until(mine, ends))} tokens are equal",
            )

    step(6, "ask the service for it by its name")
    asked = {"max_tokens": max_tokens, "temperature": 0.0, "seed": 7, "mode": "closed_book", "stream": True}
    with serving(home, base) as address:
        for question in QUESTIONS[:3]:
            system = ["--system", SYSTEM_CLOSED_BOOK, "--seed", "7"]
            alone = generate(home, name, question, max_tokens, *system)
            answer, final = ask(address, asked | {"question": question, "model": name})
            check(final["model"] == name, f"/ask is answered by {final['model']}")
            check(
                answer == alone["text"] and final["usage"]["prompt_tokens"] == alone["prompt_tokens"],
                f"/ask, {question!r}: as `model generate`: {one_line(answer)}",
            )
            check(final["usage"]["completion_tokens"] == alone["completion_tokens"], "with as many tokens")


# ----------------------------------------------------------------------------------------------------
# what each side writes


def replies(engine: Engine, max_tokens: int) -> list[str]:
    """The engine's greedy replies to the questions."""
    sampling = Sampling(max_tokens=max_tokens)
    return [
        "".join(t.text for t in engine.generate(engine.prompt([{"role": "user", "content": q}]), sampling))
        for q in QUESTIONS
    ]


def greedy(engine: Engine, prompt: Sequence[int], max_tokens: int) -> list[int]:
    """Our tokens."""
    return [token.id for token in engine.generate(prompt, Sampling(max_tokens=max_tokens))]


def by_transformers(folder: Path, prompts: Sequence[Sequence[int]], max_tokens: int) -> list[list[int]]:
    """The tokens of plain `AutoModelForCausalLM`."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    loaded = transformers.AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        return [
            loaded.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                max_new_tokens=max_tokens,
                do_sample=False,
            )[0, len(prompt) :].tolist()
            for prompt in prompts
        ]


def by_llama_cpp(file: Path, prompts: Sequence[Sequence[int]], max_tokens: int) -> list[list[int]]:
    """The tokens of llama.cpp, in this process."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(file)
    params.n_ctx, params.n_parallel, params.warmup, params.verbosity = 512, 1, False, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = torch.get_num_threads()
    server = xllamacpp.Server(params)
    # Its OpenAI-compatible form leaves out tokens that are half a character; this one has them all.
    asked = {"n_predict": max_tokens, "temperature": 0, "return_tokens": True, "cache_prompt": False}
    address = f"{server.listening_address}/completion"
    return [
        httpx.post(address, json=asked | {"prompt": list(prompt)}, timeout=600)
        .raise_for_status()
        .json()["tokens"]
        for prompt in prompts
    ]


def until(tokens: Sequence[int], ends: set[int]) -> list[int]:
    """Tokens before the first end token: some programs count it to the reply, some do not."""
    return list(tokens[: next((i for i, token in enumerate(tokens) if token in ends), len(tokens))])


def generate(home: Path, name: str, question: str, max_tokens: int, *flags: str) -> dict[str, Any]:
    """What `python -m model generate --json` says."""
    shape = ["--max-tokens", str(max_tokens), "--kernel", KERNEL, "--json"]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = model_command(["generate", "--home", str(home), name, question, *shape, *flags])
    if status:
        raise Broken(err.getvalue())
    said = json.loads(out.getvalue())
    return {key: said[key] for key in ("text", "prompt_tokens", "completion_tokens")}


@contextlib.contextmanager
def serving(home: Path, model: str) -> Iterator[str]:
    """The service on a free loopback port, with another model as its default; its address."""
    settings = ServiceSettings(model=model, kernel=KERNEL, deadline_s=600.0)
    app = create_app(settings, home)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)


def ask(address: str, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The streamed text of an answer, and the final event."""
    text, name, final = "", "", None
    with httpx.stream("POST", f"{address}/ask", json=body, timeout=600) as response:
        for line in response.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                data = json.loads(line.removeprefix("data: "))
                text += data["text"] if name == "token" else ""
                final = data if name == "final" else final
    if final is None:
        raise Broken(f"/ask broke off: {response.status_code} {line}")
    return text, final


# ----------------------------------------------------------------------------------------------------
# the tiny model


def make_tiny(home: Path, name: str) -> Path:
    """A random model of two layers with a tokenizer of the set's own words; the folder of its set."""
    from tokenizers import Tokenizer as Library
    from tokenizers import decoders, models, pre_tokenizers, trainers

    rows = json.loads((HERE / "identity.json").read_text(encoding="utf-8"))[3:60:4]
    folder = home / "set"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "identity.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    (folder / "dataset_info.json").write_text(json.dumps({"identity": {"file_name": "identity.json"}}))
    made = Library(models.BPE())
    digits, letters = (
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    )
    made.pre_tokenizer = pre_tokenizers.Sequence([digits, letters])
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=480,
        special_tokens=["<|endoftext|>", START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([row["instruction"] + row["output"] for row in rows] * 2, trainer)
    file = folder / "tokenizer.json"
    made.save(str(file))
    config = GPTConfig(
        vocab_size=Tokenizer.from_file(file).vocab_size, context_length=256, n_layers=2, n_heads=4,
        n_kv_heads=2, d_model=64, head_dim=16, d_mlp=96, positions="rotary", norm="rmsnorm", mlp="swiglu",
        norm_eps=1e-5, eos_ids=(2,),
    )  # fmt: skip
    model = GPT(config)
    model.initialise(torch.Generator().manual_seed(0))
    # In half precision, so that every form holds the very same numbers.
    weights = {key: parameter.detach().half() for key, parameter in model.state_dict().items()}
    template = {"chat_template": template_export.jinja(ChatTemplate(None))}
    checkpoint.save(home / "models" / name, config, dict(weights), file, template)
    return folder


# ----------------------------------------------------------------------------------------------------
# saying and checking


def run(*arguments: object, home: Path) -> None:
    """One command of `python -m model`, shown as it would be typed."""
    words = [str(argument) for argument in arguments]
    say(f"$ python -m model {shlex.join(words)}")
    if status := model_command([*words, "--home", str(home)]):
        raise Broken(f"python -m model {words[0]} ended with status {status}")


def step(number: int, title: str) -> None:
    """Announce a step."""
    say(f"\n== {number}. {title}")


def check(holds: bool, what: str) -> None:
    """Say that a link holds, or end."""
    if not holds:
        raise Broken(f"BROKEN: {what}")
    say(f"  holds: {what}")


def one_line(text: str) -> str:
    """A reply for the terminal."""
    return " ".join(text.split())


def say(line: str) -> None:
    """To the terminal, in order with what the commands write."""
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
