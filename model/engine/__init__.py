"""Generation: prompts in, tokens out, as fast as this machine's kernels allow.

engine.py     Engine: load, prefill in slices, generate, score
generation.py Generation: one reply in progress, an iterator of tokens
beams.py      the likeliest reply among several written side by side
lookup.py     drafts from what was read, for greedy replies
scoring.py    log-probabilities of given continuations
cache.py      keys and values of what was read
constrain.py  replies that are slices of a text
sampling.py   from logits to a token
text.py       from tokens to text, and stop strings
adapters.py   low-rank corrections beside the weights, switched by the call
kernels.py    the decoder's parts replaced by faster ones
head.py       the output head, packed and exact
probe.py      which of them are faster here, timed at start-up
memory.py     returning what loading took
terminal.py   `python -m model generate`
"""

from model.engine.cache import Cache
from model.engine.engine import Engine
from model.engine.generation import Generation, Token

__all__ = ["Cache", "Engine", "Generation", "Token"]
