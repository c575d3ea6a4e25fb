"""What is known of a stretch as an answer: the features from which a calibrator makes its probability.

Most come twice over: as they are, and as the distance to the best of the question's, since what is good for
one question is poor for another.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from ingest.types import Hit
from model.spans.reader import Span, SpanReading
from service import evidence
from service.choosing.stretches import Stretch
from service.questions import compared, definitions, kinds, wanted
from service.quoting import Similarity
from service.refusal import Rarity

#: Stretches that are compared with the question by meaning, the best by words and rank.
EMBEDDED = 24
#: Logits are cut here: beyond, they tell of rounding.
MOST_LOGIT = 8.0
WORDS, RANK = 0.6, 0.4
#: Kinds of questions that a row of a table may answer; for a way or a reason it hardly ever does.
TABULAR = frozenset((None, "list", "comparison"))

FEATURES = (
    "meaning",
    "meaning_below",
    "heading_meaning_below",
    "beside_meaning_below",
    "passage_meaning_below",
    "next_to_best",
    "words",
    "words_below",
    "heading_words",
    "heading_is",
    "beside_words",
    "all_words",
    "score",
    "score_below",
    "rank",
    "relevance",
    "tells",
    "tells_below",
    "mass",
    "span_below",
    "item",
    "row",
    "code",
    "list",
    "first",
    "first_meaning",
    "place",
    "length",
    "echo",
    "question",
    "how_command",
    "how_code",
    "else_code",
    "how_order",
    "how_list",
    "else_row",
    "list_parts",
    "list_list",
    "list_many",
    "compare_both",
    "why_because",
    "defines",
    "says_meaning",
    "define_first",
    "summary_first",
    "yes_polar",
)

_COMMAND = re.compile(r"`[^`\n]+`|(?:^|\s)--?[a-z][\w-]+|\$ \w+|\b(?:[a-z]+_)+[a-z]+\b")
_ORDER = re.compile(
    r"^\W*(?:to [a-z]+|first|then|next|finally|after that|you (?:can|must|should|need|may)|run"
    r"|use|set|open|click|choose"
    r"|select|add|put|give|pass|press|type|enter|install|start|stop|delete|remove|make|create|write|copy|move|change"
    r"|turn|switch|fill|check|look|ask|name|call|send|see|go|take|keep|pull|leave|let|limit|raise|lower|free)\b"
    r"|(?:^|[，。；：、\s])(?:请|請|先|首先|然后|然後|接着|接著|最后|最後|再|第[一二三四五六七八九十]步|运行|運行|使用|执行|執行"
    r"|打开|打開|点击|點擊|选择|選擇|设置|設置|输入|輸入|安装|安裝|下载|下載|用|可以|应该|應該|应当|應當|需要|只需|必须|必須)",
    re.IGNORECASE,
)
_BECAUSE = re.compile(
    r"\b(?:because|since|so that|due to|as a result|therefore|thus|reasons?|caused?"
    r"|in order to|otherwise|led to|for fear|consequently|hence|as a means of|purpose|aim|so as to|so it)\b"
    r"|因[为為此而]|由[于於]|所以|以便|以免|原因|导致|導致|否则|否則|故|从而|從而|使得|缘[于故]",
    re.IGNORECASE,
)
_MEANS = re.compile(
    r"\b(?:means?|meant|meaning|is an?|are|was an?|refers? to|denotes?|stands? for|called|known as|i\.e\.)\b"
    r"|是指|指的是|意思|意为|意為|定义|定義|称为|稱為|即|是",
    re.IGNORECASE,
)
_BETWEEN = re.compile(r",(?!\d{3}\b)|;|、|，|；|\band\b|\bor\b|和|以及", re.IGNORECASE)
_ENDS_ASKING = re.compile(r"[?？]\W*$")


@dataclass(frozen=True, slots=True)
class Known:
    """What the search and the readers made of one question.

    Attributes:
        question: as asked.
        hits: the passages, best first.
        relevance: the retrieval's probability that they are about the question.
        similarity: cosine of the question with texts; None: nobody can tell.
        rarity: inverse document frequencies; without it all words count the same.
        unrelated: cosine of unrelated texts.
        spans: the span reader's readings, of each hit; empty where it did not look.
    """

    question: str
    hits: Sequence[Hit]
    relevance: float
    similarity: Similarity | None = None
    rarity: Rarity | None = None
    unrelated: float = 0.0
    spans: Sequence[SpanReading] = ()
    seen: dict[str, frozenset[str]] = field(default_factory=dict)  #: terms of texts, kept

    def terms(self, text: str) -> frozenset[str]:
        """The content terms of a text."""
        if text not in self.seen:
            self.seen[text] = frozenset(evidence.terms(text))
        return self.seen[text]


def weights(known: Known) -> dict[str, float]:
    """The question's content terms, each as rare as it is in the collection."""
    asked = list(dict.fromkeys(evidence.terms(known.question)))
    if known.rarity is None or not asked:
        return dict.fromkeys(asked, 1.0)
    return dict(zip(asked, known.rarity(asked), strict=True))


def leading(known: Known, found: Sequence[Stretch], limit: int = EMBEDDED) -> list[Stretch]:
    """The best stretches by words and passage, in the order given; the rest cannot win."""
    asked = weights(known)
    best = max((hit.score for hit in known.hits), default=0.0) or 1.0

    def worth(stretch: Stretch) -> float:
        own = known.terms(stretch.text)
        near = own | known.terms(_headings(stretch.hit)) | known.terms(stretch.beside)
        words = 0.7 * evidence.share(asked, own) + 0.3 * evidence.share(asked, near)
        return WORDS * words + RANK * stretch.hit.score / best

    kept = sorted(range(len(found)), key=lambda i: -worth(found[i]))[:limit]
    return [found[i] for i in sorted(kept)]


def describe(known: Known, found: Sequence[Stretch]) -> list[tuple[float, ...]]:
    """The features of each stretch, in the order of `FEATURES`."""
    if not found:
        return []
    question, asked = known.question, weights(known)
    kind = kinds.kind(question)
    thing, things = definitions.asked(question), compared.things(question)
    meaning = _meaning(known, [_in_context(s) for s in found])
    headings = list(dict.fromkeys(_headings(s.hit) for s in found))
    by_heading = dict(zip(headings, _meaning(known, headings), strict=True))
    shares = [evidence.share(asked, known.terms(s.text)) for s in found]
    best_meaning, best_share = max(meaning), max(shares)
    of_passage: dict[int, dict[int, float]] = {}
    for stretch, near in zip(found, meaning, strict=True):
        places = of_passage.setdefault(stretch.rank, {})
        places[stretch.place] = max(near, places.get(stretch.place, near))
    leader = max(range(len(found)), key=lambda i: meaning[i])
    best_heading = max(by_heading.values())
    best_score = max(hit.score for hit in known.hits)
    tells = {rank: _logit(1.0 - reading.not_here) for rank, reading in enumerate(known.spans)}
    best_tells = max(tells.values(), default=0.0)
    top_span = max((s.score for reading in known.spans for s in reading.spans), default=0.0)
    asked_terms = frozenset(asked)
    rows: list[tuple[float, ...]] = []
    for stretch, near, share in zip(found, meaning, shares, strict=True):
        text, rank, hit = stretch.text, stretch.rank, stretch.hit
        heading = _headings(hit)
        of_heading = known.terms(heading)
        last = known.terms(hit.heading_path[-1] if hit.heading_path else hit.title)
        both = len(last & asked_terms)
        heading_is = 2 * both / (len(last) + len(asked_terms)) if last and asked_terms else 0.0
        own = [span.score for span in _spans(known.spans, stretch)]
        mass = known.spans[rank].mass(stretch.start, stretch.end) if rank < len(known.spans) else 0.0
        list_like = stretch.kind == "list"
        command = bool(_COMMAND.search(text)) or stretch.code
        items = stretch.parts or sum(bool(part.strip()) for part in _BETWEEN.split(text))
        rows.append(
            (
                near,
                near - best_meaning,
                by_heading[heading] - best_heading,
                max(
                    (
                        of_passage[rank][at]
                        for at in (stretch.place - 1, stretch.place + 1)
                        if at in of_passage[rank]
                    ),
                    default=min(meaning),
                )
                - best_meaning,
                max(of_passage[rank].values()) - best_meaning,
                float(rank == found[leader].rank and 0 < abs(stretch.place - found[leader].place) <= 2),
                share,
                share - best_share,
                evidence.share(asked, of_heading),
                heading_is,
                evidence.share(asked, known.terms(stretch.beside)),
                evidence.share(asked, known.terms(text) | of_heading | known.terms(stretch.beside)),
                hit.score,
                hit.score - best_score,
                1.0 / (1 + rank),
                _logit(known.relevance),
                tells.get(rank, 0.0),
                tells[rank] - best_tells if rank in tells else 0.0,
                mass,
                max(-15.0, max(own) - top_span) if own else (-15.0 if known.spans else 0.0),
                float(stretch.kind == "item"),
                float(stretch.kind == "row"),
                float(stretch.kind == "code"),
                float(list_like),
                float(stretch.first),
                float(stretch.first) * heading_is,
                math.log1p(stretch.place),
                math.log(1 + _length(text)),
                float(wanted.repeats(question, text)),
                float(_ENDS_ASKING.search(text) is not None),
                float(kind == "how-to" and command),
                float(kind == "how-to" and stretch.code),
                float(kind != "how-to" and stretch.code),
                float(kind == "how-to" and _ORDER.search(text) is not None),
                float(kind == "how-to" and list_like),
                float(kind not in TABULAR and stretch.kind == "row"),
                min(1.0, math.log1p(items) / 3) if kind == "list" else 0.0,
                float(kind == "list" and list_like),
                float(kind == "list" and items >= 3),
                _compares(known, things, text) if kind == "comparison" else 0.0,
                float(kind == "why" and _BECAUSE.search(text) is not None),
                float(thing is not None and definitions.defines(text, thing)),
                float(kind in ("definition", "explain") and _MEANS.search(text) is not None),
                float(kind == "definition" and stretch.first),
                float(kind in ("summary", "explain") and stretch.first),
                float(kind == "yes-no" and evidence.is_negative(text)),
            )
        )
    return rows


def _meaning(known: Known, texts: Sequence[str]) -> list[float]:
    """How close each text is to the question: 0 unrelated, 1 the same."""
    if known.similarity is None or not texts:
        return [0.0] * len(texts)
    cosines = known.similarity(known.question, [text or " " for text in texts])
    return [(c - known.unrelated) / max(1e-6, 1.0 - known.unrelated) for c in cosines]


def _spans(readings: Sequence[SpanReading], stretch: Stretch) -> list[Span]:
    if stretch.rank >= len(readings):
        return []
    return [s for s in readings[stretch.rank].spans if s.start < stretch.end and stretch.start < s.end]


def _compares(known: Known, things: Sequence[frozenset[str]], text: str) -> float:
    """Share of the compared things of which a text speaks."""
    return sum(compared.speaks(known.terms(text), thing) for thing in things) / len(things) if things else 0.0


def _headings(hit: Hit) -> str:
    return " ".join(dict.fromkeys(part for part in (hit.title, *hit.heading_path) if part))


def _in_context(stretch: Stretch) -> str:
    """The stretch as the embedder should see it: a pronoun means nothing without its heading."""
    hit = stretch.hit
    heading = hit.heading_path[-1] if hit.heading_path else hit.title
    return f"{heading}: {stretch.text}" if heading else stretch.text


def _length(text: str) -> float:
    """In Latin letters: a Chinese character says as much as three."""
    wide = sum("\u3040" <= c <= "\u9fff" for c in text)
    return len(text) + 2.0 * wide


def _logit(probability: float) -> float:
    kept = min(max(probability, 1e-9), 1 - 1e-9)
    return max(-MOST_LOGIT, min(MOST_LOGIT, math.log(kept / (1 - kept))))
