"""The words around an answer on the terminal, in the language of its question."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from service import evidence
from service.citations import Citation
from service.events import Final

UNSUPPORTED = " [?]"


@dataclass(frozen=True, slots=True)
class Frame:
    """The words of one language."""

    begins: Callable[[str, str, str], str]  #: with which data folder, collection and model
    withdrawn: str  #: between a draft and what took its place
    understood: Callable[[str], str]  #: of a follow-up that was made self-contained
    nearest: str  #: above the passages that come closest to what was not answered
    unsupported: str  #: what the mark behind a sentence means
    quoted: str  #: who speaks where no model does
    refused: str
    confidence: Callable[[float], str]
    seconds: Callable[[float], str]
    listed: Callable[[str, str, str], str]  #: a path, its pages and what stands there
    citation: Callable[[str, str, str], str]
    page: Callable[[int], str]
    pages: Callable[[int, int], str]
    summary: Callable[[list[str]], str]

    def line(self, citation: Citation) -> str:
        """A citation below the answer."""
        pages = self._pages(citation.page_first, citation.page_last)
        return f"[{citation.marker}] {self.citation(citation.path, pages, citation.quote)}"

    def passage(self, path: str, first: int | None, last: int | None, text: str) -> str:
        """A passage that comes close."""
        return f"  - {self.listed(path, self._pages(first, last), text)}"

    def ending(self, final: Final) -> str:
        """Who spoke, how sure that is, and how long it took."""
        who = final.model if final.llm_generated else self.quoted if final.answered else self.refused
        sure = [] if final.confidence is None else [self.confidence(final.confidence)]
        return self.summary([who, *sure, self.seconds(final.timings.total_ms / 1000)])

    def _pages(self, first: int | None, last: int | None) -> str:
        if first is None:
            return ""
        return self.page(first) if last is None or last == first else self.pages(first, last)


ENGLISH = Frame(
    begins=lambda home, collection, model: f"data folder {home}, collection {collection}, model {model}",
    withdrawn="(The passages do not bear this draft out. In the documents' own words:)",
    understood=lambda question: f"(understood as: {question})",
    nearest="Nearest passages:",
    unsupported=f"{UNSUPPORTED.strip()} = no passage supports this sentence",
    quoted="the documents' own words",
    refused="refused",
    confidence=lambda share: f"confidence {share:.2f}",
    seconds=lambda seconds: f"{seconds:.1f} s",
    listed=lambda path, pages, text: f"{path}{pages}: {text}",
    citation=lambda path, pages, quote: f'{path}{pages}: "{quote}"',
    page=lambda number: f", page {number}",
    pages=lambda first, last: f", pages {first}-{last}",
    summary=lambda parts: f"({', '.join(parts)})",
)

CHINESE = Frame(
    begins=lambda home, collection, model: f"数据目录 {home}，集合 {collection}，模型 {model}",
    withdrawn="（找到的段落不支持以上草稿。资料原文：）",
    understood=lambda question: f"（理解为：{question}）",
    nearest="最接近的段落：",
    unsupported=f"{UNSUPPORTED.strip()} = 没有段落支持这句话",
    quoted="资料原文",
    refused="未作答",
    confidence=lambda share: f"把握 {share:.2f}",
    seconds=lambda seconds: f"{seconds:.1f} 秒",
    listed=lambda path, pages, text: f"{path}{pages}：{text}",
    citation=lambda path, pages, quote: f"{path}{pages}：“{quote}”",
    page=lambda number: f"，第 {number} 页",
    pages=lambda first, last: f"，第 {first}-{last} 页",
    summary=lambda parts: f"（{'，'.join(parts)}）",
)


def of(question: str) -> Frame:
    """The frame for an answer to this question."""
    return CHINESE if evidence.in_chinese(question) else ENGLISH
