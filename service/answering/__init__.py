"""Ways to answer from passages, each an iterator of events that ends with `Final`.

turn.py      one question on its way, and how a reply ends
each.py      every passage is read apart, and the likeliest answer chosen
computed.py  what a whole table says, before anybody reads
joint.py     all passages in one prompt, and the reply checked sentence by sentence
quoted.py    the documents' own words
"""
