"""Low-rank adapters: small trained corrections beside the frozen projections of a decoder (arXiv 2106.09685).

    y = W x + b + scale * B A x             A (rank, in), B (out, rank), B = 0 at first
    y = m / |W + scale B A| * (W x + scale * B A x) + b     with DoRA (arXiv 2402.09353): m (out,), |.| by row

An adapter is put in by replacing the projection's module with a `LoRALinear` that holds it, and taken out by
putting it back. Several adapters may be attached under different names; at most one is active, and with none
active the decoder computes exactly what it computed before.

Invariants:

* The head and the embedding are never adapted, so a tied head stays tied.
* A and B are float32 while they are trained; products with them are made in the dtype of the activations.
* An `Adapter` is data: tensors by native module name, with the hash of the base it was trained on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import LoRAConfig
from model.errors import AdapterError
from model.formats.hf import GPT2_NAMES, LLAMA_NAMES
from model.gpt import GPT

DEFAULT = "default"
#: Family -> what stands before a module's name in Hugging Face's model, and those names to the native ones.
MODULES = {
    "llama": ("model.", LLAMA_NAMES),
    "qwen2": ("model.", LLAMA_NAMES),
    "gpt2": ("transformer.", GPT2_NAMES),
}
#: What GPT-2 keeps in one matrix, in this order.
FUSED = ("attn.q", "attn.k", "attn.v")


@dataclass(frozen=True, slots=True)
class LowRank:
    """The correction of one projection."""

    a: Tensor  #: (rank, in)
    b: Tensor  #: (out, rank)
    scale: float
    magnitude: Tensor | None = None  #: (out,), for DoRA


@dataclass(frozen=True, slots=True)
class Adapter:
    """A trained adapter, apart from any decoder."""

    config: LoRAConfig
    modules: dict[str, LowRank]  #: by native module name, such as "blocks.0.attn.q"
    base: str | None = None  #: `model.identity` of the base's weights; None: not known
    metadata: dict[str, Any] = field(default_factory=dict)


class Correction(nn.Module):
    """One adapter's part in one projection."""

    def __init__(self, low_rank: LowRank, dropout: float = 0.0) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(low_rank.a), nn.Parameter(low_rank.b)
        self.magnitude = None if low_rank.magnitude is None else nn.Parameter(low_rank.magnitude)
        self.scale, self.dropout = low_rank.scale, dropout
        self.gain: Tensor | None = None  #: DoRA's m / |W + scale B A|, once training is over

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out): scale * B A x."""
        x = F.dropout(x, self.dropout, self.training)
        y: Tensor = F.linear(F.linear(x, self.a.to(x.dtype)), self.b.to(x.dtype)) * self.scale
        return y

    def row_gain(self, weight: Tensor) -> Tensor:
        """DoRA's m / |W + scale B A|, (out,) float32; the norm counts as constant, as the paper proposes."""
        assert self.magnitude is not None
        if self.gain is not None:
            return self.gain
        with torch.no_grad():
            norm = torch.linalg.vector_norm(
                weight.float() + self.scale * (self.b.float() @ self.a.float()), dim=1
            )
        gain: Tensor = self.magnitude.float() / norm
        return gain


class LoRALinear(nn.Module):
    """A projection with adapters beside it. `base` may be any module that computes the same product."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.in_features, self.out_features = base.in_features, base.out_features
        self.adapters = nn.ModuleDict()
        self.active: str | None = None

    @property
    def weight(self) -> Tensor:
        """The base's."""
        return self.base.weight

    @property
    def bias(self) -> Tensor | None:
        """The base's."""
        return self.base.bias

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        if self.active is None or self.active not in self.adapters:
            plain: Tensor = self.base(x)
            return plain
        correction = self.adapters[self.active]
        assert isinstance(correction, Correction)
        if correction.magnitude is not None:
            gain = correction.row_gain(self.base.weight).to(x.dtype)
            y: Tensor = (F.linear(x, self.base.weight) + correction(x)) * gain
            return y if self.base.bias is None else y + self.base.bias
        weight = self.base.weight
        quiet = correction.dropout == 0 or not correction.training
        if quiet and torch.is_grad_enabled() and not weight.requires_grad and weight.dtype == x.dtype:
            product: Tensor = FrozenProduct.apply(  # type: ignore[no-untyped-call]
                x, weight, self.base.bias, correction.a, correction.b, correction.scale
            )
            return product
        corrected: Tensor = self.base(x) + correction(x)
        return corrected


class FrozenProduct(torch.autograd.Function):
    """x W' + b + scale * (x A') B' where W and b want no gradient: fewer passes over memory than autograd's.

    The correction is added where the product lies, in both directions, and A and B are turned into x's dtype
    once.
    """

    @staticmethod
    def forward(  # noqa: PLR0917 - autograd passes them by position
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float
    ) -> Tensor:
        """(..., in) to (..., out)."""
        rows = x.reshape(-1, x.shape[-1])
        a_, bt = a.to(x.dtype), b.T.to(x.dtype).contiguous()  # B lies so that products run along memory
        inner = F.linear(rows, a_)
        y = F.linear(rows, weight, bias).addmm_(inner, bt, alpha=scale)
        ctx.save_for_backward(rows, weight, a_, bt, inner)
        ctx.scale, ctx.dtypes = scale, (a.dtype, b.dtype)
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, A and B."""
        rows, weight, a, bt, inner = ctx.saved_tensors
        gy = grads[0].reshape(-1, weight.shape[0])
        ginner = F.linear(gy, bt).mul_(ctx.scale)
        gb = (inner.T @ gy).T.to(ctx.dtypes[1]).mul_(ctx.scale)
        ga = (ginner.T @ rows).to(ctx.dtypes[0])
        gx = None
        if ctx.needs_input_grad[0]:
            gx = (gy @ weight).addmm_(ginner, a).view(*grads[0].shape[:-1], -1)
        return gx, None, None, ga, gb, None


# ----------------------------------------------------------------------------------------------------
# which projections


def projections(model: nn.Module) -> dict[str, nn.Linear | LoRALinear]:
    """What may be adapted, by native name: every linear layer of the blocks, never the head."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | LoRALinear)
        and name.startswith("blocks.")
        and not name.endswith(".base")
    }


def targets(model: GPT, wanted: Sequence[str]) -> list[str]:
    """Native names of the projections that `wanted` means.

    A name is "all", the last part of a native name ("q", "down") or of a Hugging Face one ("q_proj",
    "c_attn"), or more of it ("attn.o", "mlp.c_proj").

    Raises:
        AdapterError: a name that fits no projection; lists those that would.
    """
    names = list(projections(model))
    if "all" in wanted:
        return names
    aliases = {name: (name, hugging_face_name(name, model.config.family)) for name in names}
    chosen: set[str] = set()
    for want in wanted:
        fitting = {
            name for name, own in aliases.items() if any(("." + alias).endswith("." + want) for alias in own)
        }
        if not fitting:
            known = sorted({alias.rpartition(".")[2] for own in aliases.values() for alias in own})
            raise AdapterError(
                f"lora_target {want!r} names no projection of this model; it has {', '.join(known)}, or all"
            )
        chosen |= fitting
    return [name for name in names if name in chosen]


def hugging_face_name(name: str, family: str) -> str:
    """What the family's Hugging Face model calls a projection (GPT-2 has one module for q, k and v).

    Raises:
        AdapterError: a family without a table.
    """
    if family not in MODULES:
        raise AdapterError(f"adapters of the family {family!r} have no names in Hugging Face's models")
    _, index, rest = name.split(".", 2)
    ours = {f"blocks.{{i}}.{rest}", "blocks.{i}.attn.{qkv}" if rest in FUSED else ""}
    theirs = next(key for key, value in MODULES[family][1].items() if value in ours)
    return MODULES[family][0] + theirs.replace("{i}", index)


# ----------------------------------------------------------------------------------------------------
# in and out


def inject(
    model: GPT, config: LoRAConfig, *, name: str = DEFAULT, generator: torch.Generator | None = None
) -> None:
    """Freeze the decoder and put a fresh, active, trainable adapter into it; its output does not change.

    A is drawn as peft draws it (uniform, Kaiming with a = sqrt(5)), B is zero.

    Raises:
        AdapterError: a target that is no projection of this decoder.
    """
    model.requires_grad_(False)
    modules = {}
    for target in targets(model, config.lora_target):
        weight = model.get_submodule(target).weight
        assert isinstance(weight, Tensor)
        out, width = weight.shape
        a = torch.empty(config.lora_rank, width)
        nn.init.kaiming_uniform_(a, a=math.sqrt(5), generator=generator)
        magnitude = torch.linalg.vector_norm(weight.detach().float(), dim=1) if config.use_dora else None
        modules[target] = LowRank(
            a.to(weight.device),
            torch.zeros(out, config.lora_rank, device=weight.device),
            config.scale,
            None if magnitude is None else magnitude,
        )
    _attach(model, Adapter(config, modules), name, trainable=True)
    set_active(model, name)


def go_on(model: GPT, adapter: Adapter, config: LoRAConfig, *, name: str = DEFAULT) -> None:
    """Freeze the decoder and put a copy of a trained adapter into it, active, to be trained on.

    Of `config`, whose rank and strength are the adapter's, the dropout counts.

    Raises:
        AdapterError: a module that this decoder has not, another shape, or projections of unlike rank or
            strength, which `collect` could not tell apart again.
    """
    for target, one in adapter.modules.items():
        if one.a.shape[0] != config.lora_rank or not math.isclose(one.scale, config.scale):
            raise AdapterError(
                f"the adapter has rank {one.a.shape[0]} and strength {one.scale:g} at {target}, "
                f"{config.lora_rank} and {config.scale:g} elsewhere: it cannot be trained on; merge it first"
            )
    model.requires_grad_(False)
    device = next(model.parameters()).device

    def own(tensor: Tensor) -> Tensor:
        return tensor.to(device, torch.float32, copy=True)

    modules = {
        target: LowRank(own(p.a), own(p.b), p.scale, None if p.magnitude is None else own(p.magnitude))
        for target, p in adapter.modules.items()
    }
    _attach(model, Adapter(config, modules), name, trainable=True)
    set_active(model, name)


def attach(model: GPT, adapter: Adapter, *, name: str = DEFAULT) -> None:
    """Put a trained adapter beside the projections, inactive and frozen.

    Raises:
        AdapterError: a module that this decoder has not, or another shape.
    """
    _attach(model, adapter, name, trainable=False)


def _attach(model: GPT, adapter: Adapter, name: str, *, trainable: bool) -> None:
    if not name or "." in name:
        raise AdapterError(f"{name!r} cannot be an adapter's name: it may not be empty or hold a dot")
    check(adapter, {target: module.weight for target, module in projections(model).items()})
    detach(model, name)
    for target, low_rank in adapter.modules.items():
        module = model.get_submodule(target)
        if isinstance(module, nn.Linear):
            parent, _, last = target.rpartition(".")
            training, module = module.training, LoRALinear(module)
            setattr(model.get_submodule(parent), last, module.train(training))
        assert isinstance(module, LoRALinear)
        correction = Correction(low_rank, adapter.config.lora_dropout if trainable else 0.0)
        if not trainable:
            correction.requires_grad_(False)
            if correction.magnitude is not None:
                correction.gain = correction.row_gain(module.weight)
        module.adapters[name] = correction.train(module.training)


def set_active(model: nn.Module, name: str | None) -> None:
    """Make one adapter speak, or none.

    Raises:
        AdapterError: no adapter of that name is attached.
    """
    if name is not None and name not in attached(model):
        raise AdapterError(
            f"no adapter {name!r} is attached; there are {', '.join(attached(model)) or 'none'}"
        )
    for module in _adapted(model):
        module.active = name


def active(model: nn.Module) -> str | None:
    """The active adapter's name."""
    return next((module.active for module in _adapted(model) if module.active is not None), None)


def attached(model: nn.Module) -> list[str]:
    """Names of the adapters in the decoder."""
    return sorted({name for module in _adapted(model) for name in module.adapters})


def detach(model: GPT, name: str = DEFAULT) -> None:
    """Take an adapter out; a projection left without any is again the module it was."""
    for target, module in projections(model).items():
        if isinstance(module, LoRALinear) and name in module.adapters:
            del module.adapters[name]
            module.active = None if module.active == name else module.active
            if not module.adapters:
                parent, _, last = target.rpartition(".")
                setattr(model.get_submodule(parent), last, module.base)


def extract(model: nn.Module, config: LoRAConfig, *, name: str = DEFAULT, base: str | None = None) -> Adapter:
    """A copy, in float32 on the CPU, of an adapter that `inject` put in."""
    own = {key: p for key, p in model.named_parameters() if f".adapters.{name}." in key}
    tensors = {key: p.detach().to("cpu", torch.float32, copy=True) for key, p in own.items()}
    return collect(tensors, config, name=name, base=base)


def collect(
    parameters: Mapping[str, Tensor], config: LoRAConfig, *, name: str = DEFAULT, base: str | None = None
) -> Adapter:
    """An adapter from the decoder's parameters by name."""
    found: dict[str, dict[str, Tensor]] = {}
    for key, tensor in parameters.items():
        target, marker, part = key.partition(f".adapters.{name}.")
        if marker:
            found.setdefault(target.removesuffix(".base"), {})[part] = tensor
    modules = {
        target: LowRank(parts["a"], parts["b"], config.scale, parts.get("magnitude"))
        for target, parts in found.items()
    }
    return Adapter(config, modules, base)


def check(adapter: Adapter, weights: Mapping[str, Any]) -> None:
    """Compare an adapter with the projections (out, in) that it shall correct, by native module name.

    Raises:
        AdapterError: a projection missing, or of another shape: an adapter for another base.
    """
    for target, low_rank in adapter.modules.items():
        if target not in weights:
            raise AdapterError(
                f"the adapter corrects {target}, which this model does not have: it is for another base"
            )
        out, width = weights[target].shape
        rank = low_rank.a.shape[0]
        if low_rank.a.shape != (rank, width) or low_rank.b.shape != (out, rank):
            raise AdapterError(
                f"the adapter corrects a {target} of {low_rank.b.shape[0]} x {low_rank.a.shape[1]}, "
                f"this model's is {out} x {width}: it is for another base"
            )
        if low_rank.magnitude is not None and low_rank.magnitude.shape != (out,):
            raise AdapterError(f"the adapter's magnitudes of {target} do not fit its {out} rows")


def _adapted(model: nn.Module) -> Iterator[LoRALinear]:
    return (module for module in model.modules() if isinstance(module, LoRALinear))
