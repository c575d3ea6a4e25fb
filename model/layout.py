"""Which tensors a decoder of a given `GPTConfig` has, by native name and shape.

This is the one list that reading, writing, checking and counting go by. It imports no torch, so that `inspect` and
`list` stay quick. Linear weights are (out, in), as in `torch.nn.Linear`.
"""

from __future__ import annotations

from model.config import GPTConfig

Shape = tuple[int, ...]


def tensor_shapes(config: GPTConfig) -> dict[str, Shape]:
    """Native name -> shape of every tensor of the decoder, in the order in which they are applied."""
    q, kv = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
    shapes: dict[str, Shape] = {"embed.weight": (config.vocab_size, config.d_model)}
    if config.positions == "learned":
        shapes["positions.weight"] = (config.context_length, config.d_model)
    for i in range(config.n_layers):
        block = f"blocks.{i}."
        _norm(shapes, block + "attn_norm", config)
        _linear(shapes, block + "attn.q", (q, config.d_model), config.attention_bias)
        _linear(shapes, block + "attn.k", (kv, config.d_model), config.attention_bias)
        _linear(shapes, block + "attn.v", (kv, config.d_model), config.attention_bias)
        _linear(shapes, block + "attn.o", (config.d_model, q), config.output_bias)
        _norm(shapes, block + "mlp_norm", config)
        if config.mlp == "swiglu":
            _linear(shapes, block + "mlp.gate", (config.d_mlp, config.d_model), config.mlp_bias)
        _linear(shapes, block + "mlp.up", (config.d_mlp, config.d_model), config.mlp_bias)
        _linear(shapes, block + "mlp.down", (config.d_model, config.d_mlp), config.mlp_bias)
    _norm(shapes, "norm", config)
    if not config.tied_head:
        shapes["head.weight"] = (config.vocab_size, config.d_model)
    return shapes


def _norm(shapes: dict[str, Shape], name: str, config: GPTConfig) -> None:
    shapes[name + ".weight"] = (config.d_model,)
    if config.norm == "layernorm":
        shapes[name + ".bias"] = (config.d_model,)


def _linear(shapes: dict[str, Shape], name: str, shape: Shape, bias: bool) -> None:
    shapes[name + ".weight"] = shape
    if bias:
        shapes[name + ".bias"] = (shape[0],)
