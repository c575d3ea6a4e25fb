"""The section around a passage: laws over drawn documents, and what becomes of hits that share one."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.search import Searcher
from ingest.widening import around, surroundings, widened
from tests.ingest.making import EMBEDDER, new_store, put
from tests.ingest.test_chunk import document_of

TEXTS = st.lists(
    st.sampled_from(["word ", "\n", "\n\n", "港口 ", "a longer line of words\n"]), min_size=1, max_size=60
)


@settings(max_examples=80, deadline=None)
@given(st.data(), TEXTS.map("".join))
def test_the_section_holds_the_passage_and_stays_within_its_heading(data: st.DataObject, text: str) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=5))
    document = document_of(text, [(at, (f"h{at}",)) for at in cuts], pages=3)
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    most = data.draw(st.integers(1, 2 * len(text)))
    wide = around(document, start, end, most)
    assert wide.text == text[wide.char_start : wide.char_end]
    assert wide.char_start <= start and end <= wide.char_end
    assert len(wide.text) <= max(most, end - start)
    touched = [s for s in document.sections if s.char_start < end and start < s.char_end]
    assert touched[0].char_start <= wide.char_start and wide.char_end <= touched[-1].char_end
    if touched[-1].char_end - touched[0].char_start <= most:  # the whole section, but for white space
        whole = text[touched[0].char_start : touched[-1].char_end]
        assert wide.text.strip() == whole.strip() or not text[start:end].strip()
    numbers = [
        p.number for p in document.pages if p.char_start < wide.char_end and wide.char_start < p.char_end
    ]
    assert (wide.page_first, wide.page_last) == (numbers[0], numbers[-1])


def test_hits_of_one_section_become_one_and_a_changed_document_stays_as_it_was_found(tmp_path) -> None:
    with new_store(tmp_path) as store:
        put(
            store,
            "a.md",
            "the tortoise eats grass. ".ljust(40) * 4 + "the harbour has ferries. ".ljust(40) * 4,
        )
        found = Searcher(store, EMBEDDER).search("tortoise grass", 8, "dense")
        assert len(found.hits) == 8
        wide = widened(found, store.parsed)
        document = store.parsed(found.hits[0].document_id)
        halves = {document.text[s.char_start : s.char_end].strip() for s in document.sections}
        assert {hit.text.strip() for hit in wide.hits} == halves and wide.hits[0].chunk_id == found.hits[
            0
        ].chunk_id
        assert all(document.text[h.char_start : h.char_end] == h.text for h in wide.hits)
        put(store, "a.md", "something else altogether " * 20)
        assert widened(found, store.parsed) == found
        store.forget(["a.md"])
        assert surroundings(found.hits[0], store.parsed) is None
