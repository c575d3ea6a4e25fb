"""What a decoder may be made of: one module an axis, one small table a module, no torch in the first two.

choices.py    the names of every axis's entries, and the stretching of rotary positions
options.py    a preset with some axes changed, from flags or a file
positions.py  learned | sinusoidal | rotary
scaling.py    rotary frequencies stretched: linear, dynamic, llama3, yarn
norms.py      layernorm | rmsnorm
mlps.py       activations, plain and gated
heads.py      linear | normhead
initialise.py fresh weights: gpt2 | xavier | kaiming
"""
