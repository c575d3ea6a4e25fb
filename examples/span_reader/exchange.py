"""Questions that a passage nearly answers, made from those that it does answer.

    When did Norway join?  ->  When did Denmark join?      a name, year or number by another of the passage
    Who was the first ...  ->  Who was the last ...        a word by its opposite
    What did he accept     ->  What didn't he accept       a negation

That is how SQuAD 2's annotators wrote most of theirs. The same exchange in the passage alone asks the same of
a reader; made in both, the answer stands as before, so that an odd name as such says nothing.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

#: Words that begin questions and sentences, which no name begins with.
_PLAIN = """
    a after all also although among an and another are as at because before both but by did do does
    during each for from had has have he her his how however i if in is it its many most name no of on
    one or other she since some such than that the their there these they this those though through to
    under until was were what when where which while who whom whose why will with would
"""
PLAIN = frozenset(_PLAIN.split())
NAME = re.compile(r"\b[A-Z][\w'’.-]*[\w](?: (?:of |the |de )?[A-Z][\w'’-]*\w)*")
YEAR, NUMBER = re.compile(r"\b1[0-9]{3}\b|\b20[0-9]{2}\b"), re.compile(r"\b\d[\d,.]*\d\b|\b\d\b")
_OPPOSITES = """
    first/last largest/smallest larger/smaller highest/lowest higher/lower most/least more/fewer
    before/after north/south east/west northern/southern eastern/western northeast/southwest
    northwest/southeast earliest/latest oldest/youngest longest/shortest best/worst major/minor
    increase/decrease increased/decreased won/lost win/lose above/below inside/outside always/never
    many/few early/late begin/end began/ended started/stopped allowed/forbidden public/private
    strong/weak positive/negative same/opposite support/oppose supported/opposed accept/reject
    accepted/rejected old/new beginning/end male/female men/women father/mother son/daughter buy/sell
    bought/sold enemy/ally common/rare popular/unpopular legal/illegal possible/impossible cause/prevent
    include/exclude rich/poor left/right upper/lower modern/ancient internal/external maximum/minimum
    top/bottom hot/cold fast/slow easy/difficult good/bad lack/presence agree/disagree build/destroy
    built/destroyed
"""
OPPOSITES = [pair.split("/") for pair in _OPPOSITES.split()]
OPPOSITE = {a: b for one, other in OPPOSITES for a, b in ((one, other), (other, one))}
DENIED = re.compile(r"\b(did|does|do|was|were|is|are|can|could|has|have|would|will)\b", re.IGNORECASE)


def things(text: str) -> dict[str, list[str]]:
    """Names, years and numbers of a text, each once."""
    names = []
    for found in NAME.finditer(text):
        name = found[0]
        head, _, rest = name.partition(" ")
        if head.lower() in PLAIN:
            name = rest
        if len(name) > 2 and name[0].isupper():
            names.append(name)
    years = YEAR.findall(text)
    numbers = [n for n in NUMBER.findall(text) if not YEAR.fullmatch(n)]
    return {
        kind: list(dict.fromkeys(some))
        for kind, some in (("name", names), ("year", years), ("number", numbers))
    }


def put(text: str, old: str, new: str) -> str:
    """The text with a thing exchanged wherever it stands."""
    return re.sub(rf"(?<!\w){re.escape(old)}(?!\w)", lambda _: new, text)


def other(
    question: str, near: str, far: str, accepted: Sequence[str], draw: random.Random
) -> tuple[str, str] | None:
    """A thing of the question, and another of its kind from the passage, or else from the article."""
    asked = things(question)
    choices = [(kind, thing) for kind in asked for thing in asked[kind]]
    draw.shuffle(choices)
    for kind, thing in choices:
        for text in (near, far) if draw.random() < 0.7 else (far, near):
            fit = [
                one
                for one in things(text)[kind]
                if one not in question
                and thing not in one
                and not any(one in a or a in one for a in accepted)
                and (kind != "name" or abs(one.count(" ") - thing.count(" ")) <= 1)
            ]
            if fit:
                return thing, draw.choice(fit)
    return None


def opposite(question: str, draw: random.Random) -> str | None:
    """The question with a word of it turned round; None where there is none."""
    found = [m for m in re.finditer(r"\w+", question) if m[0].lower() in OPPOSITE]
    if not found:
        return None
    one = draw.choice(found)
    return question[: one.start()] + OPPOSITE[one[0].lower()] + question[one.end() :]


def denied(question: str, draw: random.Random) -> str | None:
    """The question with a "not" or "never" behind its first auxiliary; None where it has none."""
    found = DENIED.search(question)
    if found is None or "?" not in question or re.search(r"n[o']t\b|\bnever\b", question):
        return None
    word = draw.choice([found[0] + " not", found[0] + " never", found[0] + "n't"])
    if word.endswith(("amn't", "cann't", "willn't")):
        word = found[0] + " not"
    return question[: found.start()] + word + question[found.end() :]
