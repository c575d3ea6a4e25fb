"""From the names of sets to what a trainer iterates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from model.chat import ChatTemplate, Teach
from model.data.batches import Loader
from model.data.forms import Example, Loaded, load
from model.data.registry import Use, find
from model.data.samples import Counts, Sample, TooLong, encode
from model.data.split import split
from model.errors import DataError
from model.tokenizer import Tokenizer

#: Problems that an error message shows before it counts the rest.
SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """Which sets, and how they become micro-batches; names as LLaMA-Factory's users know them."""

    dataset: tuple[str, ...]  #: names in `dataset_dir/dataset_info.json`, or paths of .json and .jsonl files
    dataset_dir: Path = Path("data")
    eval_dataset: tuple[str, ...] = ()  #: validate on these instead of splitting
    val_size: float = 0.0  #: share (below 1) or number of examples to validate on
    max_samples: int | None = None  #: rows of each set
    cutoff_len: int = 2048  #: tokens of a conversation
    too_long: TooLong = "truncate"
    skip_malformed: bool = False  #: leave malformed rows out, counted, instead of refusing the set
    placeholders: Mapping[str, str] = field(
        default_factory=dict
    )  #: for {{name}}, {{author}}; over the registry's
    packing: bool = False
    pack_len: int | None = None  #: tokens of a row that holds several conversations
    per_device_train_batch_size: int = 8  #: rows of a micro-batch
    per_device_eval_batch_size: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        if self.eval_dataset and self.val_size:
            raise DataError("give eval_dataset or val_size, not both")
        if self.max_samples is not None and self.max_samples < 1:
            raise DataError(f"max_samples must be at least 1, got {self.max_samples}")
        if self.too_long not in ("truncate", "drop"):
            raise DataError(f"too_long must be truncate or drop, got {self.too_long!r}")


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a trainer iterates, and lines for its log."""

    train: Loader
    validation: Loader | None
    report: list[str]


def prepare(config: DataConfig, template: ChatTemplate, tokenizer: Tokenizer) -> Prepared:
    """Read, split, encode and arrange the sets of `config`.

    Raises:
        DataError: a set that cannot be used, or of which nothing is left.
    """
    report: list[str] = []
    examples = gather(config.dataset, config, report)
    if config.eval_dataset:
        train, held = examples, gather(config.eval_dataset, config, report)
    else:
        train, held = split(examples, config.val_size)
    loaders = []
    for side, rows, size in (
        ("training", train, config.per_device_train_batch_size),
        ("validation", held, config.per_device_eval_batch_size),
    ):
        if not rows:
            continue
        samples, counts = samples_of(rows, config, template, tokenizer)
        report.append(f"{side}: {counts}")
        if not samples:
            raise DataError(
                f"{side}: nothing is left of {', '.join(config.dataset)}: {counts}. "
                "`python -m model data check` shows why"
            )
        loader = Loader(
            samples,
            batch_size=size,
            seed=config.seed,
            packing=config.packing,
            pack_len=config.pack_len,
            shuffle=side == "training",
        )
        report.append(f"{side}: {loader.statistics()}")
        loaders.append(loader)
    return Prepared(loaders[0], loaders[1] if len(loaders) > 1 else None, report)


def samples_of(
    examples: Sequence[Example],
    config: DataConfig,
    template: ChatTemplate,
    tokenizer: Tokenizer,
    teach: Teach = "said",
) -> tuple[list[Sample], Counts]:
    """Samples of examples, as `config` wants them cut; `teach` says which replies are supervised."""
    return encode(
        [example.conversations for example in examples],
        template,
        tokenizer,
        cutoff_len=config.cutoff_len,
        too_long=config.too_long,
        teach=teach,
    )


def gather(
    names: Sequence[str], config: DataConfig, report: list[str], use: Use = "imitate"
) -> list[Example]:
    """The examples of several sets, one after the other; a line on each goes to `report`.

    Raises:
        DataError: a set that cannot be used, with its first malformed rows.
    """
    examples: list[Example] = []
    for loaded in read_sets(names, config, use):
        if loaded.problems and not config.skip_malformed:
            count, more = len(loaded.problems), len(loaded.problems) - SHOWN
            raise DataError(
                f"{count} of {loaded.rows} rows of {loaded.spec.name} are malformed:"
                + "".join(f"\n  {problem}" for problem in loaded.problems[:SHOWN])
                + (f"\n  and {more} more; `python -m model data check` lists them" if more > 0 else "")
                + "\nMend them, or leave them out with skip_malformed."
            )
        report.append(describe(loaded))
        examples += loaded.examples
    return examples


def read_sets(names: Sequence[str], config: DataConfig, use: Use = "imitate") -> list[Loaded]:
    """Every set as it is in its file, malformed rows listed.

    Raises:
        DataError: a file that cannot be used as a whole.
    """
    specs = find(names, config.dataset_dir)
    if config.placeholders:
        specs = [
            replace(spec, placeholders={**(spec.placeholders or {}), **config.placeholders}) for spec in specs
        ]
    return [load(spec, config.max_samples, use) for spec in specs]


def describe(loaded: Loaded) -> str:
    """One line on a set that was read."""
    parts = [f"{loaded.spec.name}: {len(loaded.examples)} of {loaded.rows} rows ({loaded.spec.form})"]
    if loaded.problems:
        parts.append(f"{len(loaded.problems)} malformed left out")
    if loaded.tool_rows:
        parts.append(f"{loaded.tool_rows} with tool turns left out")
    if loaded.tools_ignored:
        parts.append(f"tool descriptions of {loaded.tools_ignored} ignored")
    return ", ".join(parts)
