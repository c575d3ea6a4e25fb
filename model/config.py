"""Typed, validated configuration, written into every checkpoint's `config.json`.

`GPTConfig` describes one decoder by orthogonal axes (`model.axes`); the axes give GPT-2 (learned positions,
LayerNorm, GELU, biases) and Llama/SmolLM2 (rotary positions, RMSNorm, SwiGLU, grouped-query attention).
`Sampling` describes how to decode.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self, get_args

from model.axes.choices import (
    GATED,
    MLP,
    Head,
    Initialisation,
    Norm,
    Positions,
    RopeScaling,
    one_of,
)
from model.errors import CheckpointError, InvalidSampling, TrainingError


@dataclass(frozen=True, slots=True, kw_only=True)
class GPTConfig:
    """Shape of a decoder. Sizes are in elements; `head_dim * n_heads` need not equal `d_model`."""

    vocab_size: int
    context_length: int  #: positions the model was trained for
    n_layers: int
    n_heads: int
    n_kv_heads: int  #: equal to n_heads: multi-head; fewer: grouped-query attention (arXiv 2305.13245)
    d_model: int
    head_dim: int
    d_mlp: int
    positions: Positions
    norm: Norm
    mlp: MLP
    norm_eps: float
    rope_theta: float = 10_000.0  #: rotary base (arXiv 2104.09864); used where positions == "rotary"
    rope_scaling: RopeScaling | None = None  #: rotary positions stretched over a longer window
    attention_bias: bool = False  #: biases on q, k, v
    output_bias: bool = False  #: bias on the attention output projection
    mlp_bias: bool = False
    tied_head: bool = True  #: the output head is the token embedding
    head: Head = "linear"  #: normhead: its rows at length 1 (Baichuan 2, arXiv 2309.10305)
    embed_dropout: float = 0.0  #: while training, on tokens with their positions
    attention_dropout: float = 0.0  #: while training, on attention's probabilities
    residual_dropout: float = 0.0  #: while training, on what attention and MLP add to the stream
    initialisation: Initialisation = "gpt2"  #: of a decoder that is trained from nothing
    scaled_residual: bool = True  #: fresh projections onto the stream are smaller, by sqrt(2 * n_layers)
    bos_id: int | None = None
    eos_ids: tuple[int, ...] = ()  #: any of these ends a reply
    pad_id: int | None = None
    family: str = "llama"  #: which checkpoint family's name table it was read with: "llama", "gpt2"

    def __post_init__(self) -> None:
        """Refuse impossible combinations."""
        positive = (
            "vocab_size",
            "context_length",
            "n_layers",
            "n_heads",
            "n_kv_heads",
            "d_model",
            "head_dim",
            "d_mlp",
        )
        for name in positive:
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise CheckpointError(f"config: {name} must be a whole number of at least 1, got {value!r}")
        for name in ("norm_eps", "rope_theta"):
            figure = getattr(self, name)
            if isinstance(figure, bool) or not isinstance(figure, int | float):
                raise CheckpointError(f"config: {name} must be a number, got {figure!r}")
        if self.n_heads % self.n_kv_heads:
            raise CheckpointError(
                f"config: n_heads {self.n_heads} is not a multiple of n_kv_heads {self.n_kv_heads}"
            )
        for name, choices in AXES.items():
            one_of(name, getattr(self, name), choices)
        if self.positions == "rotary" and self.head_dim % 2:
            raise CheckpointError(f"config: rotary positions need an even head_dim, got {self.head_dim}")
        if self.positions == "sinusoidal" and self.d_model % 2:
            raise CheckpointError(f"config: sinusoidal positions need an even d_model, got {self.d_model}")
        if self.rope_scaling is not None and self.positions != "rotary":
            raise CheckpointError(f"config: rope_scaling goes with rotary positions, not {self.positions}")
        for name in ("embed_dropout", "attention_dropout", "residual_dropout"):
            share = getattr(self, name)
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < 1:
                raise CheckpointError(f"config: {name} must be at least 0 and below 1, got {share!r}")

    @property
    def gated(self) -> bool:
        """Whether the MLP has a gate beside its first projection."""
        return self.mlp in GATED

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self) | {"eos_ids": list(self.eos_ids)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """From JSON form.

        Raises:
            CheckpointError: unknown or missing keys, or values that do not fit together.
        """
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise CheckpointError(f"config: unknown key {unknown[0]!r}; written by a newer version?")
        scaling = values.get("rope_scaling")
        try:
            nested = {
                "eos_ids": tuple(values.get("eos_ids", ())),
                "rope_scaling": None if scaling is None else RopeScaling.from_dict(scaling),
            }
            return cls(**(values | nested))
        except TypeError as error:
            raise CheckpointError(f"config: {error}") from error

    def kv_bytes_per_token(self, bytes_per_value: int = 2) -> int:
        """Bytes of key-value cache that one token takes."""
        return 2 * self.n_layers * self.n_kv_heads * self.head_dim * bytes_per_value


#: Keys whose values are entries of an axis's table.
AXES: dict[str, Any] = {
    "positions": Positions,
    "norm": Norm,
    "mlp": MLP,
    "head": Head,
    "initialisation": Initialisation,
}

MOST_BEAMS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How to choose the next token. The defaults are greedy.

    The order of operations is that of transformers: repetition penalty, temperature, top-k, top-p, min-p,
    then a draw.
    """

    max_tokens: int = 256
    temperature: float = 0.0  #: 0 is greedy, whatever else is set
    top_k: int = 0  #: 0 keeps all
    top_p: float = 1.0
    min_p: float = 0.0  #: drop tokens below min_p times the likeliest one's probability
    repetition_penalty: float = 1.0  #: arXiv 1909.05858, over prompt and reply
    stop: tuple[str, ...] = ()  #: the reply ends before the first of these
    seed: int | None = None
    num_beams: int = 1  #: above 1: beam search, greedy only
    length_penalty: float = 1.0  #: beams: above 0 favours long replies, below 0 short ones
    early_stopping: bool | Literal["never"] = False  #: beams: when to stop looking, as in transformers
    prompt_lookup: int = 0  #: greedy: most tokens drafted at a time from what was read

    def __post_init__(self) -> None:
        """Refuse values out of range, naming the parameter."""
        checks = {
            "max_tokens": (1 <= self.max_tokens <= 1_000_000, "between 1 and 1000000"),
            "temperature": (0.0 <= self.temperature <= 100.0, "between 0 and 100"),
            "top_k": (0 <= self.top_k <= 2**31 - 1, "0 (off) or more"),
            "top_p": (0.0 < self.top_p <= 1.0, "above 0, at most 1"),
            "min_p": (0.0 <= self.min_p <= 1.0, "between 0 and 1"),
            "repetition_penalty": (0.0 < self.repetition_penalty <= 100.0, "above 0, at most 100"),
            "stop": (all(self.stop), "texts that are not empty"),
            "seed": (self.seed is None or 0 <= self.seed < 2**63, "between 0 and 2^63 - 1"),
            "num_beams": (1 <= self.num_beams <= MOST_BEAMS, f"between 1 and {MOST_BEAMS}"),
            "length_penalty": (abs(self.length_penalty) <= 10, "between -10 and 10"),
            "early_stopping": (self.early_stopping in (True, False, "never"), "true, false or never"),
            "prompt_lookup": (0 <= self.prompt_lookup <= 100, "between 0 (off) and 100"),
        }
        if self.num_beams > 1 and self.temperature > 0:
            raise InvalidSampling(
                f"num_beams {self.num_beams} looks for the likeliest reply: it goes with temperature 0, "
                f"got {self.temperature}"
            )
        for name, (ok, allowed) in checks.items():
            if not ok:
                raise InvalidSampling(f"{name} must be {allowed}, got {getattr(self, name)}")


Scheduler = Literal["cosine", "linear", "constant", "warmup_stable_decay"]
Optimiser = Literal["adamw", "adam", "sgd", "adagrad", "rmsprop"]
ComputeType = Literal["auto", "bf16", "fp32"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoRAConfig:
    """A low-rank adapter (arXiv 2106.09685): y = W x + scale * B A x, with A (rank, in) and B (out, rank)."""

    lora_rank: int = 8
    lora_alpha: float = 16.0  #: scale is alpha / rank
    lora_dropout: float = 0.0  #: on the adapter's input, while training
    lora_target: tuple[str, ...] = ("all",)  #: projections by name, or "all": every one but the head
    use_rslora: bool = False  #: scale is alpha / sqrt(rank) (arXiv 2312.03732)
    use_dora: bool = False  #: trained magnitude beside the direction (arXiv 2402.09353)

    def __post_init__(self) -> None:
        """Refuse values out of range, naming the knob."""
        _require(
            self,
            {
                "lora_rank": (self.lora_rank >= 1, "at least 1"),
                "lora_alpha": (self.lora_alpha > 0, "above 0"),
                "lora_dropout": (0 <= self.lora_dropout < 1, "at least 0 and below 1"),
                "lora_target": (bool(self.lora_target), "at least one projection, or all"),
            },
        )

    @property
    def scale(self) -> float:
        """What B A x is multiplied by."""
        return self.lora_alpha / (math.sqrt(self.lora_rank) if self.use_rslora else self.lora_rank)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """How to train. A step is one update; a micro-batch is what goes through the decoder at once."""

    learning_rate: float = 2e-4
    num_train_epochs: float = 3.0
    max_steps: int = -1  #: above 0: this many steps, whatever num_train_epochs says
    gradient_accumulation_steps: int = 1  #: micro-batches a step, in each process
    lr_scheduler_type: Scheduler = "cosine"
    warmup_ratio: float = 0.05  #: share of the steps over which the rate rises from 0
    min_lr_ratio: float = 0.0  #: share of the rate that is left at the end of cosine, linear and decay
    decay_ratio: float = 0.2  #: share of the steps over which warmup_stable_decay falls
    max_grad_norm: float = 1.0  #: 0 does not clip
    weight_decay: float = 0.0  #: on matrices; never on norms and biases
    optim: Optimiser = "adamw"
    momentum: float = 0.9  #: of sgd
    rms_alpha: float = 0.99  #: of rmsprop: share of the past in the mean square
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-8
    label_smoothing: float = 0.0
    max_z_loss: float = 0.0  #: weight of the largest logit's square (Baichuan 2, arXiv 2309.10305: 2e-4)
    neftune_noise_alpha: float = 0.0  #: noise on the embedding, while training (arXiv 2310.05914)
    loraplus_lr_ratio: float = 1.0  #: learning rate of B over that of A (LoRA+, arXiv 2402.12354)
    torch_compile: bool = False  #: compile the blocks, where a compiler is there
    compute_type: ComputeType = "auto"  #: auto: bf16 where a probe finds it faster
    gradient_checkpointing: bool = False  #: keep one activation a block and compute the others twice
    fsdp: bool = (
        False  #: several processes: shard parameters, gradients and optimiser, instead of copying them
    )
    freeze: int = 0  #: full training: the embedding and so many first blocks stay as they are
    eval_steps: int = 0  #: validate every so many steps; 0: at the end of each epoch
    save_steps: int = 0  #: save every so many steps; 0: at the end of each epoch, and every ten minutes
    early_stopping_patience: int = 0  #: stop after so many validations without a better one; 0: never
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values out of range, naming the knob."""
        counts = ("freeze", "eval_steps", "save_steps", "early_stopping_patience")
        _require(
            self,
            {
                "learning_rate": (0 < self.learning_rate < math.inf, "above 0"),
                "num_train_epochs": (0 < self.num_train_epochs < math.inf, "above 0"),
                "max_steps": (self.max_steps == -1 or self.max_steps > 0, "-1 (by epochs) or above 0"),
                "gradient_accumulation_steps": (self.gradient_accumulation_steps >= 1, "at least 1"),
                "lr_scheduler_type": (
                    self.lr_scheduler_type in get_args(Scheduler),
                    f"of {get_args(Scheduler)}",
                ),
                "warmup_ratio": (0 <= self.warmup_ratio <= 1, "between 0 and 1"),
                "min_lr_ratio": (0 <= self.min_lr_ratio <= 1, "between 0 and 1"),
                "decay_ratio": (
                    0 <= self.decay_ratio <= 1 - self.warmup_ratio,
                    "at least 0, and at most 1 together with warmup_ratio",
                ),
                "optim": (self.optim in get_args(Optimiser), f"of {get_args(Optimiser)}"),
                "momentum": (0 <= self.momentum < 1, "at least 0 and below 1"),
                "rms_alpha": (0 <= self.rms_alpha < 1, "at least 0 and below 1"),
                "max_z_loss": (0 <= self.max_z_loss < math.inf, "0 (off) or more"),
                "neftune_noise_alpha": (0 <= self.neftune_noise_alpha < math.inf, "0 (off) or more"),
                "loraplus_lr_ratio": (0 < self.loraplus_lr_ratio < math.inf, "above 0"),
                "max_grad_norm": (0 <= self.max_grad_norm < math.inf, "0 (off) or more"),
                "weight_decay": (0 <= self.weight_decay < math.inf, "0 or more"),
                "adam_beta1": (0 <= self.adam_beta1 < 1, "at least 0 and below 1"),
                "adam_beta2": (0 <= self.adam_beta2 < 1, "at least 0 and below 1"),
                "adam_epsilon": (0 < self.adam_epsilon < 1, "above 0 and below 1"),
                "label_smoothing": (0 <= self.label_smoothing < 1, "at least 0 and below 1"),
                "compute_type": (self.compute_type in get_args(ComputeType), f"of {get_args(ComputeType)}"),
                "seed": (0 <= self.seed < 2**63, "between 0 and 2^63 - 1"),
            }
            | {name: (getattr(self, name) >= 0, "0 or more") for name in counts},
        )


def _require(config: object, checks: dict[str, tuple[bool, str]]) -> None:
    """Raise TrainingError for the first knob out of range."""
    for name, (ok, allowed) in checks.items():
        if not ok:
            raise TrainingError(f"{name} must be {allowed}, got {getattr(config, name)!r}")
