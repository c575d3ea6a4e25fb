"""What a table says to a question that is about all of it: the dearest, the first, how many, which of them.

whole.py    the whole table of a passage, from the stored document
values.py   cells as numbers and days, where all cells of a column are of one kind and unit
naming.py   which of the question's words name a column, a row or a value; whether any word is left over
measures.py which column a superlative compares
telling.py  the answer, where nothing of the question is left over

Nothing is guessed here: a word of the question that the table does not account for, a cell that is no number,
two columns that fit or a table that is cut means no answer, and the readers are asked as ever. What a
question asks for is judged in `service.questions.tabular`; cells that a question names more loosely are
candidates beside what was read (`service.cells`).
"""
