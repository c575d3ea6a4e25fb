"""Texts to what a head says of them, on an engine of its base: the frozen part is the engine's own."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from model.chat import Message
from model.engine import Engine
from model.errors import Cancelled, CheckpointError
from model.gpt import GPT
from model.heads.folder import Head
from model.heads.network import READOUT, shell

#: Tokens, padding included, that are read at once.
READ_TOKENS = 2048


class HeadReader:
    """A head upon an engine. Calls block, and may come from any thread."""

    def __init__(self, engine: Engine, head: Head) -> None:
        """Put the head's blocks, or its adapter, on the engine's weights.

        Raises:
            CheckpointError: the head was trained on other weights, or lacks some of its own.
            AdapterError: its adapter does not fit.
        """
        described = head.described
        if engine.base is not None and engine.base != described.base_weights:
            raise CheckpointError(
                f"{head.name} was trained on {described.base} (weights {described.base_weights[:12]}), not "
                f"on {engine.name} (weights {engine.base[:12]}): train it again"
            )
        self.name, self.described, self._tokenizer = head.name, described, engine.tokenizer
        self._chat = engine.chat
        self._engine, self._decoder = engine, engine.model
        weights = {name: tensor.to(engine.dtype) for name, tensor in head.weights.items()}
        readout = {name: weights.pop(f"{READOUT}.{name}", None) for name in ("weight", "bias")}
        if readout["weight"] is None or readout["bias"] is None:
            raise CheckpointError(f"{head.name} has no readout: train it again")
        self._readout = nn.Linear(1, 1)
        self._readout.weight = nn.Parameter(readout["weight"].float(), requires_grad=False)
        self._readout.bias = nn.Parameter(readout["bias"].float(), requires_grad=False)
        if head.adapter is not None:
            label = f"{described.kind} {head.name} {described.run}"
            if label not in engine.adapters:
                engine.attach(label, head.adapter)
            self._engine = engine.use(label)
        elif weights:
            self._decoder = _joined(engine.model, described.first_block, weights, head.name)

    def texts(self, texts: Sequence[str], cancel: threading.Event | None = None) -> Tensor:
        """(texts, outputs) float32 of plain texts, each cut at cutoff_len. Raises Cancelled."""
        limit = self.described.cutoff_len
        return self.ids([self._tokenizer.encode(text)[:limit] for text in texts], cancel)

    def cut(self, text: str) -> int:
        """How many tokens a plain text has, where `texts` does not read them all; otherwise 0."""
        tokens = len(self._tokenizer.encode(text))
        return tokens if tokens > self.described.cutoff_len else 0

    def conversations(
        self, conversations: Sequence[Sequence[Message]], cancel: threading.Event | None = None
    ) -> Tensor:
        """(conversations, outputs) float32, each read up to its last end token. Raises Cancelled."""
        assert self._chat is not None, "a reward's base has a chat template"
        rows = []
        for messages in conversations:
            said = self._chat.encode(messages, self._tokenizer, reply=False)
            end = max(i for i, taught in enumerate(said.mask) if taught) + 1
            rows.append(said.ids[:end][-self.described.cutoff_len :])
        return self.ids(rows, cancel)

    @torch.inference_mode()
    def ids(self, rows: Sequence[Sequence[int]], cancel: threading.Event | None = None) -> Tensor:
        """(rows, outputs) float32 of rows of ids, none of them empty.

        Raises:
            Cancelled: the event was set.
        """
        found = torch.empty(len(rows), len(self._readout.weight))
        left = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        while left:
            if cancel is not None and cancel.is_set():
                raise Cancelled("the reading was cancelled")
            some = left[-max(1, READ_TOKENS // len(rows[left[-1]])) :]
            del left[-len(some) :]
            hidden = self._engine.last_states([rows[i] for i in some], self._decoder)
            found[some] = self._readout(hidden.float())
        return found


def _joined(model: GPT, first: int, weights: dict[str, Tensor], name: str) -> GPT:
    """The engine's decoder with the head's own upper blocks and norm."""
    own = shell(model)
    with torch.device("meta"):
        upper = GPT(model.config)
    wanted = {
        key
        for key in upper.state_dict()
        if key.startswith("norm.") or (key.startswith("blocks.") and int(key.split(".")[1]) >= first)
    }
    if wanted != set(weights):
        odd = sorted(wanted ^ set(weights))[0]
        raise CheckpointError(f"{name}: {odd} is missing or too much; train it again")
    upper.load_state_dict(weights, strict=False, assign=True)
    own.embed, own.positions, own.drop = model.embed, model.positions, model.drop
    own.blocks = nn.ModuleList([*model.blocks[:first], *upper.blocks[first:]])
    own.norm, own.head = upper.norm, None
    return own.requires_grad_(False).eval()
