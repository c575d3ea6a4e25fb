"""One chat template, ChatML: a conversation to ids and, born with them, the mask of what is supervised.

    <|im_start|>ROLE newline CONTENT <|im_end|> newline        for every turn, a system turn first

The mask is true on a reply and on the end token behind it, nowhere else. It is made while the ids are,
because a mask found afterwards by searching for tokens fails where BPE joins text across the boundary.

A checkpoint brings its own template in Jinja. It is not run to build prompts; `ChatTemplate.recognise` runs
it once on probe conversations, in a sandbox, reads the default system turn off the result, and refuses a
template that says anything else than this module does: a prompt that differs from the one trained on is the
classic silent fault.

Text is encoded as text. `<|im_end|>` typed by a user or found in a document ends nothing (see
`model.tokenizer`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self, TypedDict

from jinja2.sandbox import ImmutableSandboxedEnvironment

from model.errors import UnsupportedModel
from model.tokenizer import Tokenizer

START, END = "<|im_start|>", "<|im_end|>"
#: What stands for these in a template while it is looked at.
BOS, EOS = "\ue000bos\ue000", "\ue000eos\ue000"
Role = Literal["system", "user", "assistant"]
#: Which of an assistant's turns are supervised; see `ChatTemplate.encode`.
Teach = Literal["replies", "said", "last"]


class Message(TypedDict):
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """Token ids, and for each whether a trainer supervises it."""

    ids: list[int]
    mask: list[bool]


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """ChatML with a default system turn, put first where a conversation brings none; None puts none."""

    default_system: str | None = None
    begins: bool = False  #: with the tokenizer's BOS, in front of all turns
    trims: bool = False  #: white space around what a turn says is no part of it

    @classmethod
    def recognise(cls, jinja: str, *, source: str = "chat template") -> Self:
        """The template that `jinja` (a Hugging Face `chat_template`) amounts to.

        Raises:
            UnsupportedModel: it fails on, or says something else on, the probe conversations.
        """
        user: Message = {"role": "user", "content": "q"}
        probes: list[list[Message]] = [
            [user],
            [{"role": "system", "content": "s"}, user],
            [user, {"role": "assistant", "content": "a"}, {"role": "user", "content": "r"}],
        ]
        try:
            compiled = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(jinja)
            said = [
                compiled.render(messages=probe, add_generation_prompt=True, bos_token=BOS, eos_token=EOS)
                for probe in probes
            ]
            wide = compiled.render(messages=[{**user, "content": "\n q "}], bos_token=BOS, eos_token=EOS)
        except Exception as error:  # a foreign program: it may raise anything
            raise UnsupportedModel(
                f"{source}: the Jinja template fails on a plain question: {error}"
            ) from error
        begins = all(text.startswith(BOS) for text in said)
        said = [text.removeprefix(BOS) for text in said]
        head, behind = f"{START}system\n", f"{END}\n{START}user\n"
        default = None
        if said[0].startswith(head) and behind in said[0]:
            default = said[0][len(head) : said[0].index(behind)]
        template = cls(default, begins, f"{START}user\nq{END}" in wide)
        if [template.text(probe) for probe in probes] != said:
            raise UnsupportedModel(
                f"{source}: only ChatML templates are supported; this one begins {said[0][:80]!r}"
            )
        return template

    def turns(self, messages: Sequence[Message]) -> list[Message]:
        """The turns that are rendered, the default system turn included."""
        said = list(messages)
        if self.trims:
            said = [{"role": turn["role"], "content": turn["content"].strip()} for turn in messages]
        if self.default_system is None or (messages and messages[0]["role"] == "system"):
            return said
        return [{"role": "system", "content": self.default_system}, *said]

    def text(self, messages: Sequence[Message], *, reply: bool = True) -> str:
        """The conversation as one string, for people to read; `encode` is what a model reads.

        BOS has no spelling here, and is left out.
        """
        turns = "".join(f"{START}{turn['role']}\n{turn['content']}{END}\n" for turn in self.turns(messages))
        return turns + f"{START}assistant\n" if reply else turns

    def encode(
        self,
        messages: Sequence[Message],
        tokenizer: Tokenizer,
        *,
        reply: bool = True,
        teach: Teach = "replies",
    ) -> Conversation:
        """The conversation as ids and mask; `reply` opens the assistant's next turn.

        The mask has all replies, or those that say something (a blank one would teach to end at once), or of
        these only the last turn of all.

        An assistant's content is encoded apart from its header, as it is when it is being generated.

        Raises:
            UnsupportedModel: the vocabulary lacks ChatML's control tokens, or BOS where the template has it.
        """
        if self.begins and not tokenizer.opening:
            raise UnsupportedModel("the chat template begins with BOS, which the tokenizer does not have")
        try:
            start, end = tokenizer.special[START], tokenizer.special[END]
        except KeyError as error:
            raise UnsupportedModel(
                f"this vocabulary has no {error.args[0]} token: not a chat model"
            ) from error
        newline = tokenizer.encode("\n")
        ids: list[int] = []
        mask: list[bool] = []

        def put(tokens: list[int], *, supervised: bool = False) -> None:
            ids.extend(tokens)
            mask.extend([supervised] * len(tokens))

        put(list(tokenizer.opening) if self.begins else [])
        turns = self.turns(messages)
        last = turns[-1] if turns else None
        for turn in turns:
            put([start])
            if turn["role"] == "assistant":
                put(tokenizer.encode("assistant\n"))
                taught = teach == "replies" or bool(turn["content"].strip())
                taught = taught and (teach != "last" or turn is last)
                put([*tokenizer.encode(turn["content"]), end], supervised=taught)
            else:
                put([*tokenizer.encode(f"{turn['role']}\n{turn['content']}"), end])
            put(newline)
        if reply:
            put([start, *tokenizer.encode("assistant\n")])
        return Conversation(ids, mask)
