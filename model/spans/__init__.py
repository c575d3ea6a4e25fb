"""Where in a passage the answer stands: a span head on the multilingual encoder, which reads any language.

encoder.py  the encoder in our own torch, cut in two at a layer
pieces.py   texts to word pieces, and back to places in the text
network.py  the trained upper layers with their head, and their loss
data.py     pairs to learn from, as micro-batches for the trainer's one loop
reader.py   a question, some passages, one batch
folder.py   the trained part as a folder, put upon the encoder that it was trained on
"""
