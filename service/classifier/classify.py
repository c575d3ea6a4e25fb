"""The conductor of classification: makes classes ready once, then gives every text a label, or none.

Who is asked decides how. A model of our own scores labels (`Scores`), so one of them is always chosen. A
model that only writes is given the prompt and a JSON schema of the labels (`Structured`); what it says is
taken as it is, and a reply that is no label is an abstention.

Everything that is computed from the examples is kept in memory by their hash, the embedder and the model.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ingest.embed import Embedder
from model.chat import ChatTemplate
from model.errors import Cancelled, ModelError
from service.classifier import mixture, prompt
from service.classifier.decided import Decided
from service.classifier.examples import MOST_TEXT_CHARS, Classes, clean, shortened
from service.classifier.fitted import Decision, LeftOut, Use, Vectors, decide, measured, settled
from service.classifier.kernels import Floats
from service.classifier.likelihood import TEXT_TOKENS, Likelihood
from service.errors import InvalidRequest, WeightsMissing
from service.generators import Generator, Message, Scores, Structured

PARTS = ("similarity", "ngrams", "likelihood")
#: Sets of classes whose fits are kept.
KEPT = 8
#: Share of its window that an upstream model's prompt may take with examples.
SHOWN_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request, checked."""

    texts: tuple[str, ...]
    classes: Classes
    abstain_below: float = 0.0
    likelihood: Use = "auto"
    include_prompt: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one text."""

    label: str | None
    scores: dict[str, float]
    abstained: bool
    parts: dict[str, dict[str, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    prompt: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of all texts, and how it came about."""

    results: tuple[Result, ...]
    model: str | None  #: that scored or wrote; None: no model was asked
    likelihood: str  #: whether it took part, and why
    weights: dict[str, float]
    left_out: LeftOut | None  #: of the two parts that need no model


@dataclass(slots=True)
class _Ready:
    vectors: Vectors
    decisions: dict[tuple[str, Use], Decision] = field(default_factory=dict)


class Classifying:
    """Classifies with one embedder; the generator comes with each call. Calls block."""

    def __init__(self, embedder: Callable[[], Embedder], decided: Decided) -> None:
        self._embedder, self._decisions = embedder, decided
        self._ready: OrderedDict[tuple[str, str], _Ready] = OrderedDict()
        self._latest: Likelihood | None = None
        self._lock = threading.Lock()

    def classify(
        self,
        wanted: Wanted,
        generator: Callable[[], Generator] | None,
        cancel: threading.Event,
        *,
        own: bool = True,
    ) -> Outcome:
        """Label every text.

        Args:
            wanted: what to do.
            generator: gets (and where need be, loads) the model; None: do without.
            own: whether that model is of our own engine, and is therefore not loaded where it would not help.
            cancel: ends the work.

        Raises:
            Cancelled: `cancel` was set.
            EmbedderError: the embedder is not installed.
            WeightsMissing, ModelError, UpstreamError: the model was asked for and cannot be had.
        """
        ready = self._made_ready(wanted.classes)
        needless = own and (generator is None or settled(ready.vectors, wanted.likelihood) is not None)
        model = None if generator is None or needless else self._model(wanted, generator)
        if isinstance(model, str):
            found = self._mixed(wanted, ready, None, cancel)
            return Outcome(found.results, None, model, found.weights, found.left_out)
        if isinstance(model, Structured):
            return self._written(wanted, ready, model, cancel)
        return self._mixed(wanted, ready, model, cancel)

    def _model(self, wanted: Wanted, generator: Callable[[], Generator]) -> Generator | str:
        """The model; or, where it may be done without, why it cannot be had."""
        try:
            model = generator()
        except (WeightsMissing, ModelError) as error:
            if isinstance(error, Cancelled) or wanted.likelihood == "on":
                raise
            return f"left aside: {error}"
        if isinstance(model, (Scores, Structured)):
            return model
        if wanted.likelihood == "on":
            raise InvalidRequest(f"{model.name} can neither score labels nor be held to them")
        return f"left aside: {model.name} can neither score labels nor be held to them"

    def _made_ready(self, classes: Classes) -> _Ready:
        embedder = self._embedder()
        key = classes.key, embedder.id
        with self._lock:
            if key not in self._ready:
                self._ready[key] = _Ready(Vectors(classes, embedder))
                while len(self._ready) > KEPT:
                    self._ready.popitem(last=False)
            self._ready.move_to_end(key)
            return self._ready[key]

    def _mixed(
        self, wanted: Wanted, ready: _Ready, model: Generator | None, cancel: threading.Event
    ) -> Outcome:
        """Labels by the mixture."""
        vectors = ready.vectors
        decision, likelihood = self._decided(wanted, ready, model, cancel)
        texts = [clean(text) for text in wanted.texts]
        parts, cosines = vectors.kernels([text or " " for text in texts])
        results = []
        for at, text in enumerate(texts):
            if cancel.is_set():
                raise Cancelled("the classification was withdrawn")
            if not text:
                results.append(_empty(wanted))
                continue
            notes, mine, shown = [], parts[:, at], None
            order = vectors.order(cosines[at])
            if decision.used and likelihood is not None:
                shown = likelihood.shown(order)
                nats = likelihood.scores(text, shown, cancel) / decision.spread
                mine = np.concatenate([mine, nats[None]])
                if likelihood.text(text) != text:
                    notes.append(f"the model read head and tail, {TEXT_TOKENS} tokens in all")
            if vectors.shortens(text):
                notes.append("the embedder read head and tail: the text is longer than its window")
            read = None
            if wanted.include_prompt:
                read = (
                    likelihood.prompt(text, shown)
                    if likelihood is not None and shown is not None
                    else ChatTemplate(None).text(_conversation(wanted.classes, order, text))
                )
            results.append(_judged(wanted, mine, decision.weights, notes, read))
        used = zip(PARTS, decision.weights, strict=False)
        left_out = measured(vectors.parts, vectors.weights, vectors.right[vectors.rows])
        name = model.name if model is not None and decision.used else None
        weights = {part: round(float(weight), 4) for part, weight in used}
        return Outcome(tuple(results), name, decision.reason, weights, left_out)

    def _decided(
        self, wanted: Wanted, ready: _Ready, model: Generator | None, cancel: threading.Event
    ) -> tuple[Decision, Likelihood | None]:
        key = ("" if model is None else model.name, wanted.likelihood)
        decision = ready.decisions.get(key)
        if not isinstance(model, Scores):
            decision = decision or decide(ready.vectors, None, wanted.likelihood, cancel)
            ready.decisions[key] = decision
            return decision, None
        made = (ready.vectors.embedder_id, model.engine.base or "", model.name, wanted.likelihood)
        name = self._decisions.key(wanted.classes.key, *made)
        decision = decision or self._decisions.get(name)
        likelihood = None if decision and not decision.used else self._likelihood(wanted.classes, model)
        if decision is None:
            decision = decide(ready.vectors, likelihood, wanted.likelihood, cancel)
            self._decisions.put(name, decision)
        ready.decisions[key] = decision
        if not decision.used:
            self._latest = None
        return decision, likelihood

    def _likelihood(self, classes: Classes, model: Scores) -> Likelihood:
        """The latest one, if it is the same: only that is kept, since it holds a model in memory."""
        engine = model.engine
        latest = self._latest
        if latest is None or not latest.of(engine, classes):
            self._latest = latest = Likelihood(engine, classes)
        return latest

    def _written(self, wanted: Wanted, ready: _Ready, model: Structured, cancel: threading.Event) -> Outcome:
        """Labels as an upstream model writes them."""
        vectors, classes = ready.vectors, wanted.classes
        schema = {
            "type": "object",
            "properties": {"label": {"type": "string", "enum": list(classes.labels)}},
            "required": ["label"],
        }
        texts = [clean(text) for text in wanted.texts]
        parts, cosines = vectors.kernels([text or " " for text in texts])
        room = int(model.context_tokens * SHOWN_SHARE)
        cost = prompt.costs(classes, classes.flat, model.count_tokens)
        results = []
        for at, text in enumerate(texts):
            if not text:
                results.append(_empty(wanted))
                continue
            notes = ["the model names a label and no probability; scores are of the parts that need no model"]
            if wanted.abstain_below > 0:
                notes.append("abstain_below does not count, for the same reason")
            most = max(64, room // 2)
            kept = shortened(text, most, lambda t: model.count_tokens([{"role": "user", "content": t}]))
            if kept != text:
                notes.append("the model read head and tail: the text is longer than its window")
            shown = [classes.flat[row] for row in prompt.chosen(vectors.order(cosines[at]), cost, room)]
            messages = prompt.conversation(classes, shown, kept)
            said = model.structured(messages, schema, cancel)
            label = _named(said, classes.labels)
            judged = _judged(wanted, parts[:, at], vectors.weights, notes, None)
            if label is None:
                notes.append(f"the model's reply is no label: {said[:80]!r}")
            read = ChatTemplate(None).text(messages) if wanted.include_prompt else None
            results.append(Result(label, judged.scores, label is None, judged.parts, tuple(notes), read))
        left_out = measured(vectors.parts, vectors.weights, vectors.right[vectors.rows])
        weights = {part: round(float(w), 4) for part, w in zip(PARTS, vectors.weights, strict=False)}
        return Outcome(tuple(results), model.name, "not possible: the model only writes", weights, left_out)


def _judged(wanted: Wanted, parts: Floats, weights: Floats, notes: Sequence[str], read: str | None) -> Result:
    """(parts, labels) scores of one text to its label."""
    labels = wanted.classes.labels
    logs = mixture.log_probabilities(parts[:, None], weights)[0]
    best = int(logs.argmax())
    scores = {labels[at]: float(np.exp(logs[at])) for at in np.argsort(-logs, kind="stable")}
    alone = {}
    for number, name in enumerate(PARTS[: len(parts)]):
        one = mixture.log_probabilities(parts[number : number + 1, None], weights.mean(keepdims=True))[0]
        alone[name] = {label: float(np.exp(one[labels.index(label)])) for label in scores}
    abstains = scores[labels[best]] < wanted.abstain_below
    return Result(None if abstains else labels[best], scores, abstains, alone, tuple(notes), read)


def _empty(wanted: Wanted) -> Result:
    share = 1 / len(wanted.classes.labels)
    return Result(None, dict.fromkeys(wanted.classes.labels, share), True, {}, ("the text is empty",))


def _named(said: str, labels: Sequence[str]) -> str | None:
    """The label that a reply names, in JSON or bare; None where it names none."""
    try:
        held = json.loads(said)
        said = str(held["label"]) if isinstance(held, dict) and "label" in held else said
    except ValueError:
        pass
    whole = said.strip().casefold()
    for named in (whole, whole.strip("\"'`.。")):  # a label's own full stop may belong to it: U.S.
        found = next((label for label in labels if label.casefold() == named), None)
        if found is not None:
            return found
    return None


def _conversation(classes: Classes, order: Sequence[int], text: str) -> list[Message]:
    """What a model would read: the nearest examples, by a rough count of bytes."""
    cost = [len(t.encode()) // 3 + 12 for t, _ in classes.flat]
    shown = [classes.flat[row] for row in prompt.chosen(order, cost, 1024)]
    return prompt.conversation(classes, shown, text[:MOST_TEXT_CHARS])
