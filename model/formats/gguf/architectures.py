"""What differs between the architectures in GGUF: tensor names, keys of settings, the order of rows.

llama.cpp turns the queries and keys of `llama` by neighbouring pairs and those of `qwen2` by halves, as
Hugging Face does. So in a `llama` file the rows of q and k stand in another order: each head's pairs
interleaved. A block of quantized weights lies inside one row, so moving rows loses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from model.config import GPTConfig
from model.errors import UnsupportedModel
from model.quantized import Q4_1, Q8_0, Weight

#: GGUF module -> native module; `{i}` is the block.
LLAMA_NAMES = {
    "token_embd": "embed",
    "output_norm": "norm",
    "output": "head",
    "blk.{i}.attn_norm": "blocks.{i}.attn_norm",
    "blk.{i}.attn_q": "blocks.{i}.attn.q",
    "blk.{i}.attn_k": "blocks.{i}.attn.k",
    "blk.{i}.attn_v": "blocks.{i}.attn.v",
    "blk.{i}.attn_output": "blocks.{i}.attn.o",
    "blk.{i}.ffn_norm": "blocks.{i}.mlp_norm",
    "blk.{i}.ffn_gate": "blocks.{i}.mlp.gate",
    "blk.{i}.ffn_up": "blocks.{i}.mlp.up",
    "blk.{i}.ffn_down": "blocks.{i}.mlp.down",
}
GPT2_NAMES = {
    "token_embd": "embed",
    "position_embd": "positions",
    "output_norm": "norm",
    "output": "head",
    "blk.{i}.attn_norm": "blocks.{i}.attn_norm",
    "blk.{i}.attn_qkv": "blocks.{i}.attn.{qkv}",
    "blk.{i}.attn_output": "blocks.{i}.attn.o",
    "blk.{i}.ffn_norm": "blocks.{i}.mlp_norm",
    "blk.{i}.ffn_up": "blocks.{i}.mlp.up",
    "blk.{i}.ffn_down": "blocks.{i}.mlp.down",
}


@dataclass(frozen=True)
class Architecture:
    """One value of `general.architecture`, which `GPTConfig.family` is called by, too."""

    name: str
    names: dict[str, str]
    rotary: bool
    interleaved: bool  #: rows of q and k by pairs
    eps_key: str

    def native(self, name: str) -> str | None:
        """The native name of a tensor, with `{qkv}` in it where it holds all three; None: no place for it."""
        module, _, kind = name.rpartition(".")
        index = ""
        parts = module.split(".")
        if parts[0] == "blk" and len(parts) == 3 and parts[1].isdecimal():
            index, module = str(int(parts[1])), f"blk.{{i}}.{parts[2]}"
        if module not in self.names or kind not in ("weight", "bias"):
            return None
        return f"{self.names[module]}.{kind}".replace("{i}", index)

    def foreign(self, native: str) -> str:
        """The GGUF name of a native tensor; q, k and v have one name where they stand in one tensor.

        Raises:
            UnsupportedModel: it has no place in this architecture.
        """
        module, _, kind = native.rpartition(".")
        index = ""
        if module.startswith("blocks."):
            _, index, rest = module.split(".", 2)
            module = f"blocks.{{i}}.{rest}"
        fused = module[:-1] + "{qkv}" if module[:-1] == "blocks.{i}.attn." and module[-1] in "qkv" else module
        for theirs, ours in self.names.items():
            if ours in (module, fused):
                return f"{theirs}.{kind}".replace("{i}", index)
        raise UnsupportedModel(f"{native} has no place in GGUF's architecture {self.name}.")


ARCHITECTURES = {
    "llama": Architecture("llama", LLAMA_NAMES, True, True, "attention.layer_norm_rms_epsilon"),
    "qwen2": Architecture("qwen2", LLAMA_NAMES, True, False, "attention.layer_norm_rms_epsilon"),
    "gpt2": Architecture("gpt2", GPT2_NAMES, False, False, "attention.layer_norm_epsilon"),
}


def split_order(heads: int, head_dim: int) -> torch.Tensor:
    """Row indices that turn GGUF's interleaved rotary pairs into halves: new row r is old row `order[r]`.

    llama.cpp's converter writes rows (head, 2, head_dim/2) as (head, head_dim/2, 2); this is the way back.
    """
    rows = torch.arange(heads * head_dim).view(heads, head_dim // 2, 2)
    return rows.transpose(1, 2).reshape(-1)


def pair_order(heads: int, head_dim: int) -> torch.Tensor:
    """The inverse of `split_order`: the rows as llama.cpp wants them."""
    rows = torch.arange(heads * head_dim).view(heads, 2, head_dim // 2)
    return rows.transpose(1, 2).reshape(-1)


def heads_of(native: str, config: GPTConfig) -> int | None:
    """How many heads' rows a tensor of q or k has; None for any other tensor."""
    module = native.rpartition(".")[0]
    if module.endswith("attn.q"):
        return config.n_heads
    return config.n_kv_heads if module.endswith("attn.k") else None


def take_rows(weight: Weight, rows: torch.Tensor | slice) -> Weight:
    """The rows of a weight in another order, or some of them; blocks stay as they are."""
    if isinstance(weight, Q4_1):
        return Q4_1(weight.codes[rows], weight.scale[rows], weight.minimum[rows])
    if isinstance(weight, Q8_0):
        return Q8_0(weight.codes[rows], weight.scale[rows])
    return weight[rows]
