"""Search terms: what they are for each script, and that SQLite's tokenizer keeps every one of them whole."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.store.schema import MIGRATIONS
from ingest.words import LONGEST_TERM, PUNCTUATION, indexed, query_terms, read_query, terms


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ingesting ingests ingested", ["ingest"] * 3),
        ("R123-78", ["r123-78", "r123", "78"]),
        ("deepseek-r1:1.5b", ["deepseek-r1:1.5b", "deepseek-r1", "deepseek", "r1", "1.5b", "1", "5b"]),
        ("snake_case", ["snake_case", "snake", "case"]),
        ("HTTPServer", ["httpserver", "http", "server"]),
        ("a.b@c.org", ["a.b@c.org", "a.b", "a", "b", "c.org", "c", "org"]),
        ("C++ and C#", ["c++", "c", "and", "c#", "c"]),
        ("John's café, Straße", ["john", "cafe", "strass"]),
        ("Søren, Łódź, Encyclopædia, þing", ["soren", "lodz", "encyclopaedia", "thing"]),
        ("Ｆｕｌｌ　ｗｉｄｔｈ ﬁle", ["full", "width", "file"]),
        ("1,234,567 or 3.14", ["1234567", "or", "3.14", "3", "14"]),
        ("知识库是什么？猫", ["知识", "识库", "库是", "是什", "什么", "猫"]),
        ("Python3的用法", ["python3", "的用", "用法"]),
        ("東京タワー 한국어", ["東京", "京タ", "タワ", "ワー", "한국", "국어"]),
        ("हिन्दी", ["हिन्दी"]),
        (
            "was 1,234,567, which; 总价为，12,000元。１２,０００",
            ["was", "1234567", "which", "总价", "价为", "12000", "元", "12000"],
        ),
        ("1,234,5678 a,1,234", ["1", "234", "5678", "a", "1", "234"]),
        (
            "revenue¹ 2019² 10⁶ km² LEGO™ ①first",
            ["revenu", "1", "2019", "2", "10", "6", "km2", "lego", "tm", "1", "first"],
        ),
        ("data\u00adbase in\u200bvisible GPT\u20114", ["databas", "invis", "gpt-4", "gpt", "4"]),
        ("infor-\nmation", ["inform", "infor-mation", "infor", "mation"]),
        (
            "e-mail I.B.M. U.S. 978-3-16 500mg 3rd",
            [
                "e-mail",
                "e",
                "mail",
                "email",
                "i.b.m",
                "i",
                "b",
                "m",
                "ibm",
                "u.s",
                "u",
                "s",
                "us",
                "978-3-16",
                "978",
                "3",
                "16",
                "978316",
                "500mg",
                "500",
                "mg",
                "3rd",
            ],
        ),
        ("… -- '' \"\" () ☃ \0", []),
    ],
)
def test_terms(text: str, expected: list[str]) -> None:
    assert terms(text) == expected


def test_a_question_loses_its_function_words_unless_it_has_no_others() -> None:
    assert query_terms("What is the capital of France? It's the capital, isn't it?") == ["capit", "franc"]
    assert query_terms("to be or not to be") == ["to", "be", "or", "not"]


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("vitamin D deficiency", ["vitamin", "d", "defici"]),
        ("the sales report of May 2020", ["sale", "report", "may", "2020"]),
        ("may I see the report in May", ["see", "report", "may"]),
        ("US import duty, and who are WHO?", ["us", "import", "duti", "who"]),
        ("WHAT IS THE PRICE", ["price"]),
        ("A dog and I", ["dog"]),
    ],
)
def test_what_is_written_like_a_name_is_no_function_word(question: str, found: list[str]) -> None:
    assert query_terms(question) == found


def test_every_character_of_a_run_begins_a_term_of_the_index() -> None:
    text = "他养了一只猫，还有两只狗。"
    for character in "他养了一只猫还有两狗":
        (exact,) = read_query(character).exact
        assert exact.is_prefix and any(term.startswith(exact.terms[0]) for term in indexed(text))
    assert indexed("知识库 Lorebase") == ["知识", "识库", "lorebas", "库"]  # a phrase of both is found
    assert read_query("一只猫").exact == () and set(terms(text)) < set(indexed(text))


@given(st.text())
def test_terms_hold_no_other_punctuation_and_are_never_long(text: str) -> None:
    for term in terms(text):
        assert 0 < len(term) <= LONGEST_TERM
        assert all(c.isalnum() or c in PUNCTUATION + "_" or ord(c) > 127 for c in term), term


@given(st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"])), max_size=5))
def test_sqlite_indexes_exactly_these_terms(texts: list[str]) -> None:
    """Oracle: SQLite's own list of what its index holds."""
    connection = sqlite3.connect(":memory:")
    for statement in MIGRATIONS[0]:
        if "VIRTUAL" in statement:
            connection.execute(statement)
    expected: dict[str, int] = {}
    for text in texts:
        found = terms(text)
        connection.execute("INSERT INTO words (terms) VALUES (?)", (" ".join(found),))
        for term in found:
            expected[term] = expected.get(term, 0) + 1
    assert dict(connection.execute("SELECT term, cnt FROM words_df")) == expected


@given(st.text(min_size=1))
def test_a_text_is_found_by_each_of_its_own_words(text: str) -> None:
    found = set(terms(text))
    assert set(query_terms(text)) <= found
