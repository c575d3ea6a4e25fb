"""The engine: a checkpoint made ready to read prompts, reply and score.

Invariants:

* Every call enters inference mode itself (that mode belongs to a thread), so an engine may be loaded in one
  thread and used in another. It keeps no state between calls but the weights and the adapters attached to
  them; what was read lies in caches that callers hold, and a cache knows which adapter read it.
* A prompt is read in slices of `slice_tokens`; between slices and between tokens the caller's event is looked
  at.
* A row of a batch gets what it would get alone: rows are padded on the right and nobody looks at the padding.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from model import checkpoint
from model.axes.positions import held_back
from model.chat import ChatTemplate, Message
from model.config import GPTConfig, Sampling
from model.engine import scoring
from model.engine.adapters import Attached, Rack
from model.engine.beams import BeamGeneration
from model.engine.cache import Cache
from model.engine.constrain import Constraint
from model.engine.generation import Generation
from model.engine.head import Head
from model.engine.kernels import FEW_ROWS, install, matrices, row_by_row, switch_of
from model.engine.probe import NAMED, Kernels, choose
from model.errors import (
    AdapterError,
    Cancelled,
    ContextOverflow,
    InvalidSampling,
    ModelError,
    UnsupportedModel,
)
from model.gpt import GPT
from model.identity import identity
from model.lora import Adapter
from model.memory import give_back
from model.quantized import dense
from model.tokenizer import Tokenizer

#: 512 read a 1,000-token prompt 13% faster than 256 did, and still end within a second of a cancellation.
SLICE_TOKENS = 512


class Engine:
    """A decoder with its tokenizer and chat template.

    Attributes:
        name: the checkpoint folder's name.
        config: the decoder's shape.
        tokenizer: text to ids and back.
        chat: the chat template; None for a model without one, or with one that this stack does not have.
        kernels: what it computes with, and why.
        dtype: of activations and of the cache.
        adapter: the attached adapter that speaks in this engine's calls; None: the base alone. `use` gives
            an engine with another one.
        base: `model.identity` of the weights, by which an adapter is known to belong here; None: not known.
    """

    def __init__(
        self,
        model: GPT,
        tokenizer: Tokenizer,
        *,
        chat: ChatTemplate | UnsupportedModel | None = None,
        name: str = "model",
        kernels: Kernels = NAMED["float32"],
        slice_tokens: int = SLICE_TOKENS,
        base: str | None = None,
    ) -> None:
        self.model, self.tokenizer, self.name = model.eval(), tokenizer, name
        self.chat = chat if isinstance(chat, ChatTemplate) else None
        self._no_chat = (
            chat
            if isinstance(chat, UnsupportedModel)
            else UnsupportedModel(
                f"{name} has no chat template; give it plain text (`--raw` on the command line)"
            )
        )
        self.config: GPTConfig = model.config
        self.kernels, self.slice_tokens = kernels, slice_tokens
        self.dtype = model.embed.weight.dtype
        self.adapter: str | None = None
        self._attached: Attached | None = None
        self.base = base
        self._rack = Rack(switch_of(model), lambda: matrices(model), model.config.n_layers)
        self._row_by_row = row_by_row(model)

    @classmethod
    def load(cls, path: Path, *, threads: int | None = None, kernel: str = "auto") -> Self:
        """Load a native checkpoint folder.

        Args:
            path: the folder.
            threads: sets torch's thread count for the whole process; None leaves it alone.
            kernel: "auto" lets a start-up probe choose; or a name out of `model.engine.probe.NAMED`.

        Raises:
            CheckpointError: the folder is missing or damaged.
            UnsupportedModel: a tokenizer that this stack does not have.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        engine = cls.from_checkpoint(checkpoint.load(path), kernel=kernel)
        give_back()
        return engine

    @classmethod
    def from_checkpoint(cls, loaded: checkpoint.Checkpoint, *, kernel: str = "auto") -> Self:
        """Make a loaded checkpoint ready; raises what `load` raises."""
        tokenizer = Tokenizer.from_file(loaded.tokenizer_file)
        jinja = loaded.metadata.get("chat_template")
        chat: ChatTemplate | UnsupportedModel | None = None
        if jinja:
            try:
                chat = ChatTemplate.recognise(jinja, source=loaded.path.name)
            except (
                UnsupportedModel
            ) as error:  # plain text can still be continued; a chat will say why it cannot
                chat = error
        kernels = choose(kernel, loaded.config, SLICE_TOKENS)
        with torch.device("meta"):
            model = GPT(loaded.config)
        model.load_state_dict({n: dense(w, kernels.dtype) for n, w in loaded.weights.items()}, assign=True)
        give_back()
        model.requires_grad_(False)
        install(model, loaded.weights, packed=kernels.packed, tiled=kernels.tiled)
        base = identity(loaded.weights)
        return cls(model, tokenizer, chat=chat, name=loaded.path.name, kernels=kernels, base=base)

    def describe(self) -> str:
        """Which kernels were chosen, and why, in one line."""
        return f"{self.name}: {self.kernels}"

    @property
    def voice(self) -> tuple[str, str | None]:
        """What a cache depends on beside its tokens: the weights, and the adapter with a hash of its own."""
        return self.base or self.name, None if self._attached is None else self._attached.label

    @property
    def fingerprint(self) -> str:
        """The weights and the adapter that speaks by their content alone, whatever they are called."""
        weights = (self.base or self.name)[:12]
        return weights if self._attached is None else f"{weights}+{self._attached.digest}"

    @property
    def adapters(self) -> list[str]:
        """Names of the attached adapters."""
        return self._rack.names

    def attach(self, name: str, adapter: Adapter) -> None:
        """Make an adapter (`model.formats.peft.read`) ready; `use(name)` lets it speak.

        Nothing of the base changes: 4-bit blocks stay 4-bit blocks, and other calls go on as they were.

        Raises:
            AdapterError: trained on other weights, of other shapes, or a name that is attached already.
        """
        if adapter.base is not None and self.base is not None and adapter.base != self.base:
            raise AdapterError(
                f"the adapter {name} was trained on weights {adapter.base[:12]}, not on {self.name} (weights "
                f"{self.base[:12]}): attach it to the model that it was trained on"
            )
        self._rack.attach(name, adapter)

    def detach(self, name: str) -> None:
        """Let go of an adapter; an engine that `use` has given keeps it for as long as it is held itself.

        Raises:
            AdapterError: it is not attached.
        """
        self._rack.detach(name)

    def use(self, name: str | None) -> Self:
        """An engine on the same weights in whose calls this adapter speaks, or with None the base alone.

        Costs nothing and changes nothing here, so both can be used in turn and in different threads:
        `engine.use("law").generate(...)`. A cache that one has filled is refused by the other.

        Raises:
            AdapterError: no adapter of that name is attached.
        """
        other = copy.copy(self)
        other.adapter, other._attached = name, None if name is None else self._rack.get(name)
        return other

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """Ids of a conversation, up to where the reply begins.

        Raises:
            UnsupportedModel: this model has no chat template, or one that this stack does not have.
        """
        if self.chat is None:
            raise UnsupportedModel(*self._no_chat.args)
        return self.chat.encode(messages, self.tokenizer).ids

    def generate(
        self,
        prompt: Sequence[int],
        sampling: Sampling | None = None,
        cancel: threading.Event | None = None,
        *,
        cache: Cache | None = None,
        constraint: Constraint | None = None,
    ) -> Generation:
        """The reply to `prompt`, token by token (greedy, at most 256, by default).

        Args:
            prompt: token ids.
            sampling: how to choose.
            cancel: once set, the next `next` raises Cancelled, at the latest after one slice.
            cache: one row that holds a beginning of `prompt`, which is then not read again. It is used up:
                pass a copy to keep it.
            constraint: what the reply is held to; its end is one of the model's end tokens, which the
                constraint allows (`constrain.Quotation(..., end=engine.config.eos_ids)`).

        Raises:
            ContextOverflow: prompt and `max_tokens` together exceed the window.
            InvalidSampling: beams with a constraint.
            ModelError: an empty prompt, or ids outside the vocabulary.
        """
        sampling = sampling or Sampling()
        self.check(prompt, sampling.max_tokens)
        if sampling.num_beams > 1:
            if constraint is not None:
                raise InvalidSampling("num_beams: a reply that is held to a text has one beam")
            return BeamGeneration(self, list(prompt), sampling, cancel, cache)
        return Generation(self, list(prompt), sampling, cancel, cache, constraint=constraint)

    @torch.inference_mode()
    def prefill(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        cache: Cache | None = None,
        cancel: threading.Event | None = None,
    ) -> tuple[Tensor, Cache]:
        """Read prompts, one a row; a row's tokens that `cache` holds already are not read again.

        Returns:
            Logits of the token behind each prompt, (rows, vocab_size) float32, and the cache of all prompts.

        Raises:
            Cancelled: the event was set between two slices.
            ContextOverflow: a prompt exceeds the window.
        """
        for prompt in prompts:
            self.check(prompt)
        cache = cache or Cache(self.config, rows=len(prompts), dtype=self.dtype)
        # The last token of a prompt is read even if the cache has it: its logits are what the caller came
        # for.
        cache.lengths = [
            min(held, len(prompt) - 1) for held, prompt in zip(cache.lengths, prompts, strict=True)
        ]
        cache.reserve(max(map(len, prompts)))
        last = torch.zeros(len(prompts), self.config.d_model, dtype=self.dtype)
        while any(held < len(prompt) for held, prompt in zip(cache.lengths, prompts, strict=True)):
            if cancel is not None and cancel.is_set():
                raise Cancelled("generation was cancelled while the prompt was being read")
            parts = [
                p[held : held + self.slice_tokens] for p, held in zip(prompts, cache.lengths, strict=True)
            ]
            hidden = self.read(parts, cache)
            for row, part in enumerate(parts):
                if part:
                    last[row] = hidden[row, len(part) - 1]
        return self.model.logits(last).float(), cache

    @torch.inference_mode()
    def step(self, tokens: Sequence[int], cache: Cache) -> Tensor:
        """Read one more token a row; logits of what follows, (rows, vocab_size) float32."""
        hidden = self._forward(torch.tensor(tokens)[:, None], cache)
        return self.model.logits(hidden[:, -1]).float()

    def drafts(self, sampling: Sampling) -> int:
        """How many tokens `verify` may be asked at once for such replies; 0: step by step is the only way.

        Greedy replies of the base alone, and only with packed kernels: there several tokens read at once come
        out to the last bit as one after another, so that speculation cannot change a reply.
        """
        exact = self._row_by_row and self._attached is None and sampling.temperature == 0
        return min(sampling.prompt_lookup, FEW_ROWS - 1) if exact else 0

    @torch.inference_mode()
    def verify(self, tokens: Sequence[int], cache: Cache) -> Tensor:
        """Read up to `FEW_ROWS` tokens of one row at once; (tokens, vocab_size) float32, each as `step`'s."""
        hidden = self._forward(torch.tensor(tokens)[None], cache, singly=True)
        head = self.model.head
        assert isinstance(head, Head)
        return head.singly(hidden[0])

    @torch.inference_mode()
    def score(
        self,
        prompt: Sequence[int],
        continuations: Sequence[Sequence[int]],
        *,
        cancel: threading.Event | None = None,
        cache: Cache | None = None,
    ) -> list[list[float]]:
        """Log-probability of each token of each continuation behind `prompt`, which is read once.

        Returns:
            One list a continuation, natural logarithms; an empty one for an empty continuation.

        Raises:
            ContextOverflow: prompt and a continuation together exceed the window.
            Cancelled: the event was set.
        """
        return scoring.score(self, prompt, continuations, cancel=cancel, cache=cache)

    def read(self, rows: Sequence[Sequence[int]], cache: Cache) -> Tensor:
        """Hidden states (rows, longest, d_model) of more tokens a row, padded with 0 behind shorter ones."""
        lengths = [len(row) for row in rows]
        ids = torch.zeros(len(rows), max(lengths), dtype=torch.long)
        for to, row in zip(ids, rows, strict=True):
            to[: len(row)] = torch.tensor(row, dtype=torch.long)
        return self._forward(ids, cache, lengths)

    @torch.inference_mode()
    def last_states(self, rows: Sequence[Sequence[int]], decoder: GPT | None = None) -> Tensor:
        """State (rows, d_model) behind the last norm at each row's last token; nothing is cached.

        Args:
            rows: token ids, at least one each.
            decoder: one that shares parts with this engine's, in its place (`model.heads`).

        Raises:
            ContextOverflow: a row exceeds the window.
        """
        for row in rows:
            self.check(row)
        lengths = torch.tensor([len(row) for row in rows])
        padded = [torch.tensor(row, dtype=torch.long) for row in rows]
        with self._rack.switch.turned(self._attached):
            ids = pad_sequence(padded, batch_first=True)
            hidden: Tensor = (decoder or self.model)(ids, positions=held_back(lengths, ids.shape[1]))
        return hidden[torch.arange(len(rows)), lengths - 1]

    def _forward(
        self, ids: Tensor, cache: Cache, lengths: Sequence[int] | None = None, *, singly: bool = False
    ) -> Tensor:
        """The decoder on (rows, n) ids, with this engine's adapter.

        Raises:
            AdapterError: another adapter has read what the cache holds.
        """
        attached = self._attached
        label = None if attached is None else attached.label
        if cache.adapter != label:
            if any(cache.lengths):
                raise AdapterError(
                    f"this cache was read with {_spoken(cache.adapter)} and cannot go on with "
                    f"{_spoken(label)}: read the prompt again"
                )
            cache.adapter = label
        with self._rack.switch.turned(attached, singly=singly):
            hidden: Tensor = self.model(ids, cache=cache, lengths=lengths)
        return hidden

    def check(self, prompt: Sequence[int], reply: int = 0) -> None:
        """Refuse what the model cannot read.

        Raises:
            ContextOverflow: prompt and reply exceed the window.
            ModelError: an empty prompt, or ids outside the vocabulary.
        """
        if not prompt:
            raise ModelError("the prompt is empty: give at least one token")
        if min(prompt) < 0 or max(prompt) >= self.config.vocab_size:
            raise ModelError(f"the prompt has token ids outside the vocabulary of {self.config.vocab_size}")
        if len(prompt) + reply > self.config.context_length:
            wanted = f"{len(prompt)} tokens of prompt" + (f" and {reply} of reply" if reply else "")
            raise ContextOverflow(
                f"{wanted} exceed {self.name}'s window of {self.config.context_length}: shorten either"
            )


def _spoken(label: str | None) -> str:
    return "no adapter" if label is None else f"the adapter {label}"
