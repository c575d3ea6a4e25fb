"""Replies of the model as it stands, with what they are worth, as micro-batches for the one loop.

A micro-batch is one prompt with a group of replies. It is made when the loop reaches it, by an engine on the
base in whose calls the adapter speaks as it is at that moment; so a step sees replies of the model that it
improves (on-policy). Which prompts and which random numbers belong to a step follows from (seed, epoch,
step) alone, so a resumed run goes on as if nothing had happened.

The advantage of a reply is its reward less the group's mean, over the group's standard deviation (GRPO, arXiv
2402.03300): no value network is needed. A group whose rewards are all equal teaches nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from model import lora
from model.chat import Message
from model.config import LoRAConfig, Sampling
from model.data.batches import IGNORED, Batch
from model.engine import Engine
from model.engine.sampling import Sampler
from model.gpt import GPT
from model.preferences.rewards import Reply, Reward

#: What the engine calls the adapter that is being trained.
POLICY = "policy"
#: Added to a group's standard deviation.
EPSILON = 1e-4


@dataclass(frozen=True, slots=True)
class RolloutBatch(Batch):
    """A group of replies to one prompt."""

    advantages: Tensor  #: (r,) float32
    rewards: Tensor  #: (r,) float32

    def to(self, device: torch.device | str) -> Self:
        """The same on another device."""
        moved = (self.ids, self.positions, self.targets, self.advantages, self.rewards)
        ids, positions, targets, advantages, rewards = (part.to(device) for part in moved)
        return replace(
            self, ids=ids, positions=positions, targets=targets, advantages=advantages, rewards=rewards
        )


class Rollouts:
    """`model.train.loop.Batches` of groups of replies."""

    def __init__(
        self,
        prompts: Sequence[Sequence[Message]],
        engine: Engine,
        policy: GPT,
        knobs: LoRAConfig,
        reward: Reward,
        *,
        group: int,
        sampling: Sampling,
        seed: int = 0,
        note: Callable[[Sequence[Reply], Sequence[float]], None] = lambda *_: None,
    ) -> None:
        """Replies to prompts.

        Args:
            prompts: conversations that end with the user's turn.
            engine: of the base; nobody else attaches adapters to it.
            policy: the decoder that is trained, with its adapter.
            knobs: of that adapter.
            reward: what a reply is worth.
            group: replies to a prompt, at least 2.
            sampling: how replies are drawn; its seed is not used.
            seed: of prompts' order and of the draws.
            note: hears of each group and its rewards.
        """
        self.prompts, self.engine, self.policy, self.knobs = list(prompts), engine, policy, knobs
        self.reward, self.group, self.sampling, self.seed, self.note = reward, group, sampling, seed, note

    def steps(self, epoch: int = 0) -> int:  # noqa: ARG002 - all epochs are alike
        """Prompts of an epoch."""
        return len(self.prompts)

    def batches(self, epoch: int, start_step: int = 0) -> Iterator[RolloutBatch]:
        """Groups from the `start_step`-th prompt on."""
        salt = f"{self.seed} {epoch} prompts ".encode()
        order = sorted(
            range(len(self.prompts)), key=lambda i: hashlib.sha256(salt + str(i).encode()).digest()
        )
        for step in range(start_step, len(order)):
            number = hashlib.sha256(f"{self.seed} {epoch} {step}".encode()).digest()
            yield self._group(self.prompts[order[step]], int.from_bytes(number[:7]))

    def fingerprint(self) -> str:
        """Hash of what decides the groups: a resumed run must find the same."""
        told = repr((self.prompts, self.group, self.sampling, self.seed))
        return hashlib.sha256(told.encode()).hexdigest()

    def _group(self, messages: Sequence[Message], seed: int) -> RolloutBatch:
        self._take_over()
        prompt = self.engine.prompt(messages)
        samplings = [replace(self.sampling, seed=seed + i) for i in range(self.group)]
        drawn = sample(self.engine.use(POLICY), prompt, samplings)
        end = set(self.engine.config.eos_ids)
        asked = messages[-1]["content"]
        replies = [
            Reply(asked, self.engine.tokenizer.decode([i for i in ids if i not in end]), ids[-1] in end)
            for ids in drawn
        ]
        rewards = self.reward(replies)
        self.note(replies, rewards)
        return batch_of(prompt, drawn, rewards)

    def _take_over(self) -> None:
        """Let the engine speak with the adapter as it is now."""
        if POLICY in self.engine.adapters:
            self.engine.detach(POLICY)
        self.engine.attach(POLICY, lora.extract(self.policy, self.knobs))


def sample(engine: Engine, prompt: Sequence[int], samplings: Sequence[Sampling]) -> list[list[int]]:
    """Replies to one prompt, drawn together: the prompt is read once. End tokens are part of them."""
    first, cache = engine.prefill([prompt])
    rows = len(samplings)
    samplers = [Sampler(how, prompt, engine.config.vocab_size) for how in samplings]
    most = min(samplings[0].max_tokens, engine.config.context_length - len(prompt))
    end, drawn = set(engine.config.eos_ids), [list[int]() for _ in range(rows)]
    cache, logits = cache.copy([0] * rows, room=most), first.expand(rows, -1)
    for _ in range(most):
        for row, sampler in enumerate(samplers):
            if not (drawn[row] and drawn[row][-1] in end):
                drawn[row].append(sampler.choose(logits[row])[0])
        going = [ids[-1] not in end for ids in drawn]
        if not any(going) or max(map(len, drawn)) >= most:
            break
        logits = engine.step(
            [ids[-1] for ids in drawn], cache
        )  # a row that has ended is read on, and ignored
    return drawn


def batch_of(prompt: Sequence[int], drawn: Sequence[Sequence[int]], rewards: Sequence[float]) -> RolloutBatch:
    """Replies behind their prompt; each token of a reply, its end included, is a target."""
    lengths = [len(prompt) + len(ids) for ids in drawn]
    shape = len(drawn), max(lengths)
    ids, targets = torch.zeros(shape, dtype=torch.int64), torch.full(shape, IGNORED)
    for row, reply in enumerate(drawn):
        ids[row, : lengths[row]] = torch.tensor([*prompt, *reply])
        targets[row, len(prompt) - 1 : lengths[row] - 1] = torch.tensor(reply)
    worth = torch.tensor(rewards, dtype=torch.float32)
    advantages = (worth - worth.mean()) / (worth.std() + EPSILON)
    positions = torch.arange(shape[1]).expand(shape).clone()
    return RolloutBatch(ids, positions, targets, None, lengths, len(drawn), advantages, worth)
