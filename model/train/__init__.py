"""Training: one loop; what is trained and on what are arguments.

loop.py         fit: accumulation, clipping, validation, early stopping, checkpoints, resume
losses.py       cross-entropy at supervised positions, in pieces
schedule.py     learning-rate schedules
optimise.py     AdamW and its weight-decay groups
state.py        checkpoints of a run: whole or not at all, exact to resume from
runs.py         run folders: configuration, metrics, log, picture
distributed.py  several processes: data parallel and sharded
sft.py          `python -m model sft`
"""
