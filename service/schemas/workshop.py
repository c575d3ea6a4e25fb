"""Training sets, runs, merges, exports and comparisons."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints

from service.schemas.models import ModelName
from service.schemas.wire import CollectionName, Reply, Request, encodable
from service.workshop.comparisons import Comparison
from service.workshop.making import Written
from service.workshop.runs import Seen
from service.workshop.sets import DataSet

SetName = Annotated[str, StringConstraints(min_length=1, max_length=80), AfterValidator(encodable)]
RunName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


class Turn(Reply):
    """Who says what."""

    role: str
    content: str


class DataSetReply(Reply):
    """An uploaded file of conversations or of questions."""

    name: str
    kind: Literal["alpaca", "sharegpt", "reading", "questions", "unreadable"]
    rows: int
    malformed: int = Field(description="rows that cannot be used")
    problems: list[str] = Field(description="the first of them, and why")
    sample: list[Turn] = Field(description="the first conversation, shortened")
    bytes: int
    changed_at: str

    @classmethod
    def of(cls, found: DataSet) -> DataSetReply:
        """From the inner form."""
        return cls(
            name=found.name,
            kind=found.kind,  # type: ignore[arg-type]
            rows=found.rows,
            malformed=found.malformed,
            problems=list(found.problems),
            sample=[Turn(role=role, content=content) for role, content in found.sample],
            bytes=found.bytes,
            changed_at=found.changed_at,
        )


class DataSetsReply(Reply):
    """All uploaded sets."""

    datasets: list[DataSetReply]


class RunRequest(Request):
    """`POST /runs`: the knobs of `python -m model sft`; those left out have its defaults."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "dataset": ["identity.json"],
                    "model": "smollm2-135m-instruct",
                    "name": "identity",
                    "learning_rate": 2e-4,
                    "num_train_epochs": 5,
                    "lora_rank": 8,
                }
            ]
        }
    )

    dataset: list[SetName] = Field(min_length=1, max_length=20, description="uploaded sets; see /datasets")
    model: ModelName | None = Field(None, description="an installed model; the service's own one by default")
    name: RunName | None = Field(None, description="of the run and of the adapter that it makes")
    learning_rate: float | None = Field(None, gt=0, le=1)
    num_train_epochs: float | None = Field(None, gt=0, le=10_000)
    max_steps: int | None = Field(None, ge=1, le=10_000_000)
    per_device_train_batch_size: int | None = Field(None, ge=1, le=1024)
    gradient_accumulation_steps: int | None = Field(None, ge=1, le=4096)
    cutoff_len: int | None = Field(None, ge=8, le=1_000_000)
    max_samples: int | None = Field(None, ge=1, le=2**31 - 1)
    val_size: float | None = Field(None, ge=0, le=2**31 - 1, description="share, or number of examples")
    lr_scheduler_type: Literal["cosine", "linear", "constant"] | None = None
    warmup_ratio: float | None = Field(None, ge=0, le=1)
    max_grad_norm: float | None = Field(None, ge=0, le=1e6)
    weight_decay: float | None = Field(None, ge=0, le=10)
    compute_type: Literal["auto", "bf16", "fp32"] | None = None
    lora_rank: int | None = Field(None, ge=1, le=1024)
    lora_alpha: float | None = Field(None, gt=0, le=1e5)
    lora_dropout: float | None = Field(None, ge=0, lt=1)
    skip_malformed: bool | None = Field(
        None, description="leave malformed rows out instead of refusing the set"
    )
    seed: int | None = Field(None, ge=0, le=2**31 - 1)

    def settings(self) -> dict[str, Any]:
        """What was given."""
        return self.model_dump(exclude_none=True)


class RunReply(Reply):
    """A training run."""

    name: str
    state: Literal["starting", "running", "finished", "stopped", "failed", "killed", "not started"]
    live: bool
    model: str | None
    datasets: list[str]
    settings: dict[str, Any]
    figures: dict[str, float] = Field(
        description="the latest step, steps, epoch, loss, eval_loss, best_loss, seconds"
    )
    message: str = Field(description="why it failed")
    adapter: str | None = Field(description="what it made; asked as MODEL+ADAPTER")
    command: str = Field(description="what does the same on a terminal")
    created_at: str
    log: str = Field(description="its end; only in the reply about one run")

    @classmethod
    def of(cls, seen: Seen, command: str) -> RunReply:
        """From the inner form; paths stay inside."""
        settings = {
            k: v for k, v in seen.settings.items() if k not in ("dataset", "dataset_dir", "eval_dataset")
        }
        return cls(
            name=seen.name,
            state=seen.state,  # type: ignore[arg-type]
            live=seen.live,
            model=settings.pop("model", None),
            datasets=[
                str(path).replace("\\", "/").rpartition("/")[2] for path in seen.settings.get("dataset", ())
            ],
            settings=settings,
            figures=dict(seen.figures),
            message=seen.message,
            adapter=seen.adapter,
            command=command,
            created_at=_iso(seen.created_at),
            log=seen.log,
        )


class RunsReply(Reply):
    """All runs."""

    runs: list[RunReply]


class MetricsReply(Reply):
    """What a run recorded: one event a step (`loss`) or validation (`eval_loss`)."""

    events: list[dict[str, Any]]
    next: int = Field(description="give this as `after` to get what comes later")


class MergeRequest(Request):
    """`POST /models/merge`."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"adapter": "identity", "name": "lore"}]})

    adapter: ModelName
    base: ModelName | None = Field(
        None, description="the model that it was trained on, where it does not say"
    )
    name: RunName | None = Field(None, description="of the new model; the adapter's by default")


class ExportRequest(Request):
    """`POST /models/export`."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"model": "lore", "format": "gguf"}]})

    model: ModelName
    format: Literal["hf", "gguf"] = Field(
        "gguf", description="gguf: for llama.cpp and Ollama; hf: for transformers"
    )
    quantize: Literal["f16", "q8_0"] = Field("f16", description="of a GGUF's matrices")


class MadeFile(Reply):
    """A file and its size."""

    name: str
    bytes: int


class ExportReply(Reply):
    """Where an export is: below LOREBASE_HOME, on the machine of the service."""

    folder: str
    files: list[MadeFile]
    next: str = Field(description="what to do with it")

    @classmethod
    def of(cls, written: Written) -> ExportReply:
        """From the inner form."""
        files = [MadeFile(name=name, bytes=size) for name, size in written.files]
        return cls(folder=written.folder, files=files, next=written.next)


class EvaluationRequest(Request):
    """`POST /evaluations`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"name": "manual", "questions": "questions.jsonl", "modes": ["base", "rag", "grounded"]}
            ]
        }
    )

    name: RunName
    questions: SetName = Field(description="an uploaded set of questions with known answers; see /datasets")
    modes: list[Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^,]+$")]] = Field(
        min_length=1, max_length=20, description="base, finetuned, rag, rag+finetuned, grounded, ollama/NAME"
    )
    collection: CollectionName | None = None
    model: ModelName | None = None
    finetuned: ModelName | None = Field(None, description="the adapter of the modes that say finetuned")
    limit: int | None = Field(None, ge=1, le=1_000_000, description="only the first questions")
    corpus: SetName | None = Field(None, description="only questions about this corpus")
    k: int | None = Field(None, ge=1, le=50)

    def flags(self) -> dict[str, str]:
        """As the command takes them."""
        given = self.model_dump(exclude_none=True, exclude={"name", "questions"})
        return {key: ",".join(v) if isinstance(v, list) else str(v) for key, v in given.items()}


class EvaluationReply(Reply):
    """A comparison."""

    name: str
    state: Literal["running", "finished", "failed"]
    done: int = Field(description="replies so far")
    total: int | None = Field(description="replies in the end, while it runs")
    request: dict[str, Any]
    summary: dict[str, Any] = Field(description="settings, and how often each mode was right")
    has_report: bool
    created_at: str
    log: str = Field(description="its end; only in the reply about one comparison")
    report: dict[str, Any] | None = Field(None, description="the whole report; only in the reply about one")

    @classmethod
    def of(cls, found: Comparison, report: dict[str, Any] | None = None) -> EvaluationReply:
        """From the inner form."""
        return cls(
            name=found.name,
            state=found.state,  # type: ignore[arg-type]
            done=found.done,
            total=found.total,
            request=dict(found.request),
            summary=dict(found.summary),
            has_report=found.has_report,
            created_at=_iso(found.created_at),
            log=found.log,
            report=report,
        )


class EvaluationsReply(Reply):
    """All comparisons."""

    evaluations: list[EvaluationReply]


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
