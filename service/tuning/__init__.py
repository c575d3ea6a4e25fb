"""From a collection to an adapter that was trained on it, and to a report on whether that was worth it.

form.py         what the question writer is asked: the reading form, turned round
passages.py     which passages questions are written on, and which documents belong together
spans.py        what in a passage is asked for
writer.py       who writes: our own model with the writing adapter, or a teacher
check.py        which questions are kept: those that lead to their passage and are answered back
pairs.py        what became of each passage, line by line
compile.py      from passages to pairs
sets.py         from pairs to sets, split by document
train.py        the training run, in a process of its own
trained_on.py   which documents an adapter knows, and whether they still stand
build.py        all of that in its order
verdict.py      what the comparison says, in sentences
"""
