"""Heads that judge a text: labels, or one score, read off the state of its last token.

network.py   the decoder cut in two, frozen and trained, and the readout in place of the language head
data.py      rows of ids as micro-batches; what the frozen part makes of them is computed once
described.py what a head's folder says of itself, and where heads lie
folder.py    a trained head as a folder: what differs from its base, and nothing else
reader.py    texts to probabilities or scores, on an engine of the base
labels.py    texts with labels: reading, splitting
figures.py   how good a classifier is
training.py  from settings to a folder, on the one loop
classify.py  `python -m model classify`
"""
