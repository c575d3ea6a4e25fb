"""Reading one passage at a time, from the rows that it is learned from to the answer that is chosen.

form.py         the words between us and the model, in training and in serving
rows.py         rows that teach it
cache.py        what was read of passages, kept for the next question
reader.py       one question, some passages, one batch
reply.py        a reply, held to its form and to the passage's sentences while it is written
readings.py     what comes out of it
second.py       a second reader's opinion on them, and what it alone found
select.py       which of the readings is the answer, if any
calibration.py  how likely it is right
"""
