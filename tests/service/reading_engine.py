"""A tiny engine for the reader's tests: random weights that compute for real, and a hand on the scale."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ingest.types import Hit
from model.chat import ChatTemplate
from model.config import LoRAConfig
from model.engine import Cache, Engine
from model.engine.kernels import install
from model.gpt import GPT
from model.lora import Adapter, LowRank, projections
from model.tokenizer import Tokenizer
from service.reading.form import QUESTION
from tests.model import chatml, tiny

#: What a passage and a question are replied with.
Script = Callable[[str, str], str]


class ReadingEngine(Engine):
    """Notes how many tokens it read; with a script, the reply's next token is the likeliest by far.

    Without one the logits are the random weights' own.
    """

    script: Script | None = None
    cancel_after: int | None = None
    tokens_read = 0
    calls = 0

    def prefill(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        cache: Cache | None = None,
        cancel: threading.Event | None = None,
    ) -> tuple[Tensor, Cache]:
        self.calls += 1
        if cancel is not None and self.cancel_after is not None and self.calls > self.cancel_after:
            cancel.set()
        held = [0] * len(prompts) if cache is None else cache.lengths
        self.tokens_read += sum(len(p) - min(h, len(p) - 1) for p, h in zip(prompts, held, strict=True))
        logits, cache = super().prefill(prompts, cache=cache, cancel=cancel)
        if self.script is not None:
            logits = logits.clone()
            for row, prompt in enumerate(prompts):
                self._nudge(logits[row], self.tokenizer.decode(prompt, special=True))
        return logits, cache

    def _nudge(self, logits: Tensor, text: str) -> None:
        assert self.script is not None
        passage, asked, rest = text.rpartition(QUESTION)
        if not asked or "<|im_start|>assistant\n" not in rest:
            return  # the passage alone
        question, _, written = rest.partition("<|im_end|>\n<|im_start|>assistant\n")
        reply = self.script(passage, question)
        coming = [*self.tokenizer.encode(reply), self.config.eos_ids[0]]
        done = next((n for n in range(len(coming)) if self.tokenizer.decode(coming[:n]) == written), None)
        if done is None:
            return  # held to something else than the script: the weights go on
        logits.fill_(0.0)
        logits[coming[done]] = 30.0


def build(folder: Path, script: Script | None = None, seed: int = 0) -> ReadingEngine:
    """The engine, with an adapter `reading` attached and speaking."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer, _ = chatml.pair(folder)
    return over(tokenizer, script, seed)


def over(tokenizer: Tokenizer, script: Script | None = None, seed: int = 0) -> ReadingEngine:
    model = GPT(tiny.config(vocab_size=tokenizer.vocab_size, eos_ids=(2,), context_length=2048))
    model.initialise(torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    generator = torch.Generator().manual_seed(seed + 1)
    modules = {
        name: LowRank(
            torch.randn(2, m.weight.shape[1], generator=generator) / 4,
            torch.randn(m.weight.shape[0], 2, generator=generator) / 4,
            1.0,
        )
        for name, m in projections(model).items()
    }
    install(model, dict(model.state_dict()), packed=False, tiled=False)
    engine = ReadingEngine(model, tokenizer, chat=ChatTemplate(None), name="tiny")
    engine.attach("reading", Adapter(LoRAConfig(lora_rank=2, lora_alpha=2), modules))
    engine = engine.use("reading")
    engine.script = script
    return engine


def hit(text: str, number: int = 0, score: float = 0.9, title: str = "Towers", start: int = 0) -> Hit:
    return Hit(
        number, f"doc-{number}", f"{number}.md", title, 0, text, start, start + len(text), 1, 1, (),
        score, 0.5, 1.0,
    )  # fmt: skip
