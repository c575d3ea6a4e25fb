"""Training data: files to conversations, conversations to samples, samples to micro-batches.

rows.py      JSON and JSONL files to rows, each with its number
registry.py  dataset_info.json: which file, which form, which columns
forms.py     rows to conversations: Alpaca, ShareGPT, a passage with its questions
sets.py      named sets to training and validation loaders; the one call a trainer needs
split.py     which conversations validate, so that nothing leaks
samples.py   conversations to ids and targets: masks, cutting, shared prefixes
packing.py   several samples in one row
batches.py   rows to micro-batches, in an order that can be resumed
check.py     what is wrong with a set
histogram.py how long its conversations are
command.py   `python -m model data check`
"""
