"""Classifiers and what they say."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from service.classifier.classify import Outcome, Wanted
from service.classifier.examples import Classes
from service.classifier.shelf import Named, Trained
from service.classifier.trained import WantedOfTrained
from service.errors import InvalidRequest
from service.schemas.wire import Reply, Request, Text

Labelled = dict[Text, list[Text]]
_EXAMPLE: Any = {
    "question": ["When do you open?", "Can I pay by card?"],
    "complaint": ["The parcel arrived broken.", "Nobody answers the phone."],
}


class ClassifyRequest(Request):
    """`POST /classify`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"text": "公司拟以现金收购一家软件企业全部股权。", "classifier": "finance-zh"},
                {"texts": ["Is there parking?"], "classes": _EXAMPLE, "abstain_below": 0.6},
            ]
        }
    )

    text: Text | None = Field(None, description="one text; or give `texts`")
    texts: list[Text] | None = Field(None, min_length=1, max_length=1000)
    classes: Labelled | None = Field(
        None,
        description="label to examples, at least two labels; a label without examples is known by its name",
    )
    classifier: Text | None = Field(None, description="a named classifier; or give `classes`")
    instruction: Annotated[Text, StringConstraints(max_length=4000)] | None = Field(
        None, description="what the model is told instead of the classifier's or the default instruction"
    )
    model: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = Field(
        None, description="an installed MODEL or MODEL+ADAPTER, or ollama/NAME"
    )
    abstain_below: float | None = Field(
        None, ge=0, le=1, description="no label where the best one's probability is lower; 0 by default"
    )
    likelihood: Literal["auto", "on", "off"] = Field(
        "auto",
        description="whether the model scores labels; auto: where it makes left-out examples likelier",
    )
    include_prompt: bool = False

    @model_validator(mode="after")
    def _one_of_each(self) -> ClassifyRequest:
        if (self.text is None) == (self.texts is None):
            raise ValueError("give either text or texts")
        if (self.classes is None) == (self.classifier is None):
            raise ValueError("give either classes or classifier")
        return self

    def wanted(self, named: Named | None) -> Wanted:
        """The request, checked; `named` is the classifier that it names.

        Raises:
            InvalidClasses: the classes do not fit.
        """
        texts = (self.text,) if self.text is not None else tuple(self.texts or ())
        if named is None:
            classes = Classes.of(self.classes or {}, self.instruction)
        elif self.instruction is not None:
            classes = Classes.of(named.classes.as_given(), self.instruction)
        else:
            classes = named.classes
        below = self.abstain_below
        if below is None:
            below = 0.0 if named is None else named.abstain_below
        return Wanted(texts, classes, below, self.likelihood, self.include_prompt)

    def wanted_of_trained(self, trained: Trained) -> WantedOfTrained:
        """The request to a trained classifier, checked.

        Raises:
            InvalidRequest: it asks for what a trained classifier has not.
        """
        if self.instruction is not None:
            raise InvalidRequest(f"{trained.name} is trained and reads no prompt: leave out instruction")
        if self.likelihood == "on":
            raise InvalidRequest(f"{trained.name} is trained: leave out likelihood")
        texts = (self.text,) if self.text is not None else tuple(self.texts or ())
        return WantedOfTrained(texts, trained, self.abstain_below or 0.0)


class ResultReply(Reply):
    """One text's label."""

    label: str | None = Field(description="null where it abstained")
    scores: dict[str, float] = Field(description="probability of every label, the likeliest first; sums to 1")
    abstained: bool
    parts: dict[str, dict[str, float]] = Field(
        description="what each part alone finds of the five likeliest labels"
    )
    notes: list[str] = Field(description="what was special: shortened, empty, a reply that is no label")
    prompt: str | None = Field(None, description="with include_prompt: what a model reads")


class LeftOutReply(Reply):
    """What the parts that need no model make of examples that they are not given."""

    examples: int
    accuracy: float
    log_loss: float


class ClassifyReply(Reply):
    """Labels, and how they came about."""

    results: list[ResultReply]
    classifier: str | None
    model: str | None = Field(description="that scored or wrote the labels; null where none was asked")
    likelihood: str = Field(description="whether the model's likelihood takes part, and why")
    weights: dict[str, float] = Field(description="what each part is worth")
    left_out: LeftOutReply | None

    @classmethod
    def of(cls, outcome: Outcome, classifier: str | None) -> ClassifyReply:
        """From an outcome."""
        results = [
            ResultReply(
                label=r.label,
                scores=r.scores,
                abstained=r.abstained,
                parts={part: dict(list(found.items())[:5]) for part, found in r.parts.items()},
                notes=list(r.notes),
                prompt=r.prompt,
            )
            for r in outcome.results
        ]
        left_out = outcome.left_out
        return cls(
            results=results,
            classifier=classifier,
            model=outcome.model,
            likelihood=outcome.likelihood,
            weights=outcome.weights,
            left_out=None
            if left_out is None
            else LeftOutReply(
                examples=left_out.examples, accuracy=left_out.accuracy, log_loss=left_out.log_loss
            ),
        )


class ClassifierBody(Request):
    """`PUT /classifiers/{name}`."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"classes": _EXAMPLE}]})

    classes: Labelled
    instruction: Annotated[Text, StringConstraints(max_length=4000)] | None = None
    description: Annotated[Text, StringConstraints(max_length=2000)] = ""
    abstain_below: float = Field(0.0, ge=0, le=1)

    def named(self, name: str) -> Named:
        """A classifier to keep. Raises InvalidClasses."""
        return Named(name, Classes.of(self.classes, self.instruction), self.description, self.abstain_below)


class ClassifierReply(Reply):
    """A named classifier."""

    name: str
    description: str
    instruction: str | None
    abstain_below: float
    classes: dict[str, list[str]]
    built_in: bool = Field(description="came with the program; cannot be deleted")
    hides_built_in: bool = Field(description="stands in front of one that came with the program")
    trained_on: str | None = Field(default=None, description="the model that carries a trained classifier")
    figures: dict[str, Any] = Field(
        default_factory=dict,
        description="a trained one's accuracy on texts that it has not learned from",
    )

    @classmethod
    def of(cls, named: Named | Trained) -> ClassifierReply:
        """From the shelf's."""
        if isinstance(named, Trained):
            return cls(
                name=named.name,
                description=named.described.description,
                instruction=None,
                abstain_below=0.0,
                classes={label: [] for label in named.labels},
                built_in=False,
                hides_built_in=False,
                trained_on=named.described.base,
                figures=dict(named.described.figures),
            )
        return cls(
            name=named.name,
            description=named.description,
            instruction=named.classes.instruction,
            abstain_below=named.abstain_below,
            classes=named.classes.as_given(),
            built_in=named.built_in,
            hides_built_in=named.hides_built_in,
        )


class ClassifierSummary(Reply):
    """A named classifier in a list."""

    name: str
    description: str
    labels: dict[str, int] = Field(description="label to number of examples")
    built_in: bool
    trained_on: str | None = Field(default=None, description="the model that carries a trained classifier")
    problem: str = Field(default="", description="why it cannot be used, where it cannot")


class ClassifiersReply(Reply):
    """All named classifiers."""

    classifiers: list[ClassifierSummary]
