"""Reading one passage at a time: the words of it, and the rows that it is learned from."""
