"""What is wrong with training sets before anything is trained on them.

Errors are what a trainer would refuse or should never see: a file that cannot be used, malformed rows, blank
replies, nothing to supervise, prompts that stand on both sides of the validation split. Warnings are what it
would cope with: duplicates, prompts with more than one reply, conversations longer than `cutoff_len`,
passages that validation shares with training.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from model.chat import ChatTemplate, Message
from model.data.forms import Conversation, Example, Loaded
from model.data.samples import Counts
from model.data.sets import DataConfig, describe, read_sets, samples_of
from model.data.split import normal, split
from model.errors import DataError
from model.tokenizer import Tokenizer

Kind = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, and where."""

    kind: Kind
    what: str
    where: tuple[str, ...] = ()


@dataclass(slots=True)
class Report:
    """All that was found."""

    sets: list[str] = field(default_factory=list)  #: a line on each set that could be read
    findings: list[Finding] = field(default_factory=list)
    lengths: list[int] = field(
        default_factory=list
    )  #: tokens of every conversation up to its last end token, uncut
    counts: Counts = field(default_factory=Counts)
    train: int = 0  #: examples
    validation: int = 0
    cutoff_len: int = 0

    @property
    def errors(self) -> list[Finding]:
        """The findings that must be mended."""
        return [finding for finding in self.findings if finding.kind == "error"]

    def add(self, kind: Kind, what: str, where: Iterable[str] = ()) -> None:
        """One more finding."""
        self.findings.append(Finding(kind, what, tuple(where)))

    def quantile(self, share: float) -> int:
        """Length that this share of the conversations does not exceed; 0 where there are none."""
        if not self.lengths:
            return 0
        return sorted(self.lengths)[min(len(self.lengths) - 1, int(share * len(self.lengths)))]

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "sets": self.sets,
            "findings": [{"kind": f.kind, "what": f.what, "where": list(f.where)} for f in self.findings],
            "train": self.train,
            "validation": self.validation,
            "conversations": self.counts.conversations,
            "kept": self.counts.kept,
            "truncated": self.counts.truncated,
            "dropped": self.counts.dropped(),
            "tokens": self.counts.tokens,
            "supervised": self.counts.supervised,
            "cutoff_len": self.cutoff_len,
            "lengths": {name: self.quantile(q) for name, q in QUANTILES.items()},
        }


QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


def check(config: DataConfig, template: ChatTemplate, tokenizer: Tokenizer) -> Report:
    """Look through the sets of `config`; a set that cannot be used is a finding, and the others are read.

    Raises:
        UnsupportedModel: the vocabulary has no chat tokens.
    """
    report = Report(cutoff_len=config.cutoff_len)
    train, held = (_read(names, config, report) for names in (config.dataset, config.eval_dataset))
    if not config.eval_dataset and train:
        try:
            train, held = split(train, config.val_size)
        except DataError as error:
            report.add("error", str(error))
    report.train, report.validation = len(train), len(held)
    everything = [*train, *held]
    _replies(everything, report)
    _repetitions(everything, report)
    _leaks(train, held, report)
    _lengths(everything, config, template, tokenizer, report)
    return report


def _read(names: Sequence[str], config: DataConfig, report: Report) -> list[Example]:
    examples: list[Example] = []
    for name in names:
        try:
            (loaded,) = read_sets([name], config)
        except DataError as error:
            report.add("error", str(error))
            continue
        report.sets.append(describe(loaded))
        examples += loaded.examples
        _malformed(loaded, report)
    return examples


def _malformed(loaded: Loaded, report: Report) -> None:
    """One finding for all rows with the same complaint."""
    places: dict[str, list[str]] = defaultdict(list)
    for problem in loaded.problems:
        places[problem.what].append(f"{problem.file.name}, row {problem.row}")
    for what, where in places.items():
        report.add("error", what, where)


def _replies(examples: Sequence[Example], report: Report) -> None:
    """Blank replies, and conversations without any."""
    blank, none = [], []
    for example in examples:
        for place, conversation in _placed(example):
            replies = [turn["content"] for turn in conversation if turn["role"] == "assistant"]
            if not replies:
                none.append(place)
            elif not all(reply.strip() for reply in replies):
                blank.append(place)
    if blank:
        report.add("error", f"blank replies: {len(blank)}", blank)
    if none:
        report.add("error", f"no reply to learn from: {len(none)}", none)


def _repetitions(examples: Sequence[Example], report: Report) -> None:
    """Conversations that stand there twice, and prompts that are answered in more than one way."""
    replies: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for example in examples:
        for place, conversation in _placed(example):
            *before, last = conversation
            if last["role"] == "assistant":
                replies[_key(before)][normal(last["content"])].append(place)
    twice = [
        f"{place} = {places[0]}" for r in replies.values() for places in r.values() for place in places[1:]
    ]
    if twice:
        report.add("warning", f"repeats of another conversation: {len(twice)}", twice)
    torn = [
        " and ".join(dict.fromkeys(places[0] for places in answers.values()))
        for answers in replies.values()
        if len(answers) > 1
    ]
    if torn:
        report.add("warning", f"prompts with more than one reply: {len(torn)}", torn)


def _leaks(train: Sequence[Example], held: Sequence[Example], report: Report) -> None:
    """Prompts that validation shares with training, whether at the end of a conversation or on the way."""
    known: dict[str, str] = {}
    for example in train:
        for place, key in _prompts(example):
            known.setdefault(key, place)
    leaks = [
        f"{place} = {known[key]}" for example in held for place, key in _prompts(example) if key in known
    ]
    if leaks:
        report.add("error", f"validation prompts that stand in the training set too: {len(leaks)}", leaks)
    groups = {
        example.group: f"{example.file.name}, row {example.row}"
        for example in train
        if example.group is not None
    }
    shared = [
        f"{example.file.name}, row {example.row} = {groups[example.group]}"
        for example in held
        if example.group in groups
    ]
    if shared:
        report.add(
            "warning",
            f"validation passages or groups that stand in the training set too: {len(shared)}",
            shared,
        )


def _lengths(
    examples: Sequence[Example],
    config: DataConfig,
    template: ChatTemplate,
    tokenizer: Tokenizer,
    report: Report,
) -> None:
    long = []
    for example in examples:
        for place, conversation in _placed(example):
            mask = template.encode(conversation, tokenizer, reply=False).mask
            length = max((i + 1 for i, taught in enumerate(mask) if taught), default=len(mask))
            report.lengths.append(length)
            if length > config.cutoff_len:
                long.append(f"{place}: {length}")
    _, report.counts = samples_of(examples, config, template, tokenizer)
    if long:
        fate = "dropped" if config.too_long == "drop" else "cut there, dropped where no reply is left"
        report.add("warning", f"longer than cutoff_len {config.cutoff_len}, {fate}: {len(long)}", long)
    if examples and not report.counts.kept:
        report.add("error", f"nothing is left to train on: {report.counts}")


def _prompts(example: Example) -> Iterator[tuple[str, str]]:
    """Where a reply is and all that comes before it, for each reply of the example."""
    for place, conversation in _placed(example):
        for i, turn in enumerate(conversation):
            if turn["role"] == "assistant":
                yield place, _key(conversation[:i])


def _key(turns: Sequence[Message]) -> str:
    return "\0".join(f"{turn['role']}\0{normal(turn['content'])}" for turn in turns)


def _placed(example: Example) -> Iterator[tuple[str, Conversation]]:
    """The conversations of an example, each with the name of its place."""
    place = f"{example.file.name}, row {example.row}"
    for number, conversation in enumerate(example.conversations, 1):
        yield f"{place}, question {number}" if len(example.conversations) > 1 else place, conversation
