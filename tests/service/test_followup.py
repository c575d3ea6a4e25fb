"""Follow-up questions: what is carried over and what is not, how searches are joined, and the real ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from ingest.collections import open_collection
from ingest.embed import find_embedder
from ingest.pipeline import ingest_path
from ingest.search import Searcher
from ingest.settings import IngestSettings, find_home
from ingest.types import SearchMode, SearchResult
from service.followup import Said, Standalone, leans, search_all, standalone
from tests.service.fakes import MemoryLibrary, ScriptedGenerator

ROOT = Path(__file__).parents[2]
ROWS = [json.loads(line) for line in (ROOT / "examples" / "followups.jsonl").read_text("utf-8").splitlines()]
TALK = (Said("user", "How tall is the Eiffel Tower?"), Said("assistant", "It is 330 metres tall. [1]"))
MODELS = find_home() / "models"


def said(*turns: str) -> tuple[Said, ...]:
    return tuple(Said("assistant" if i % 2 else "user", text) for i, text in enumerate(turns))


@given(st.text(min_size=1))
def test_without_history_a_question_is_unchanged(question: str) -> None:
    assert standalone(question) == Standalone(question, ((question, 1.0),))
    assert standalone(question, (Said("assistant", "Hello!"),)).text == question


@given(st.text(min_size=1), st.lists(st.text(max_size=400), min_size=1, max_size=6))
def test_nothing_is_searched_that_nobody_said(question: str, turns: list[str]) -> None:
    made = standalone(question, said(*turns))
    assert sum(weight for _, weight in made.searches) == pytest.approx(1.0)
    assert made.searches[0][0] == question  # the raw one is always among them
    everything = set(" ".join((*turns, question)))
    for text in (made.text, *(query for query, _ in made.searches)):
        assert set(text) <= everything | set(" '’s?？")
    assert made.carried == leans(question) or not any(turns[::2])


@pytest.mark.parametrize(
    "question",
    [
        "Who patented the typewriter?",
        "When did IBM change its name?",
        "Is there a limit on the number of passages?",
        "What is a collection?",
        "使用 Lorebase 需要显卡吗？",
        "什么是 DDP？",
        "尤金袋鼠是什么？",
        "五羊邨站是什么时候启用的？",
        "什么是伙伴？",
        "上海的市长是谁？",
    ],
)
def test_a_question_that_stands_by_itself_is_unchanged(question: str) -> None:
    assert standalone(question, TALK) == Standalone(question, ((question, 1.0),))


@pytest.mark.parametrize(
    ("turns", "question", "text"),
    [
        (("Where is IBM headquartered?", "In Armonk."), "When was it founded?", "When was IBM founded?"),
        (("Who ran CTR?", "Thomas Watson."), "What was his slogan?", "What was Thomas Watson's slogan?"),
        (("范廷颂是什么人？", "越南枢机。"), "他是哪一年出生的？", "范廷颂是哪一年出生的？"),
        (("五羊邨站是几号线的车站？", "5号线。"), "有几个出口？", "五羊邨站有几个出口？"),
        (("五羊邨站是几号线的车站？", "5号线。"), "最近的出口是哪个？", "五羊邨站最近的出口是哪个？"),
        (
            ("What is the population of Germany?", "83 million."),
            "And Austria?",
            "What is the population of Austria?",
        ),
        (("ZeRO1 切分什么？", "优化器状态。"), "那 ZeRO2 呢？", "ZeRO2 切分什么？"),
        (
            ("When is the midterm", "12 May."),
            "how much does it count",
            "When is the midterm? how much does it count",
        ),
        (("小米成立于哪一年？", "2010年。"), "它的创始人是谁？", "小米的创始人是谁？"),
        (("王明毕业于哪所大学？", "清华。"), "他住在哪里？", "王明住在哪里？"),
        (("公司支持哪些付款方式？", "支付宝。"), "它收手续费吗？", "公司收手续费吗？"),
        (("押金需要交多少？", "两个月。"), "它什么时候退？", "押金什么时候退？"),
        (("C:\\data是什么？", "一个文件夹。"), "它多大？", "C:\\data多大？"),
        (  # whose it is, the question says itself
            ("What is Redis?", "A store."),
            "How does the company pay its suppliers?",
            "What is Redis? How does the company pay its suppliers?",
        ),
        (
            ("What is Redis?", "A store."),
            "What happens to the laptop when it breaks?",
            "What is Redis? What happens to the laptop when it breaks?",
        ),
        (
            ("年假有多少天？", "5天。"),
            "员工离职时他的社保怎么处理？",
            "年假有多少天？ 员工离职时他的社保怎么处理？",
        ),
        (  # a correction does not mean the subject that it corrects
            ("When did the Normans conquer England?", "In 1066."),
            "I mean Italy, when did they enter it?",
            "When did the Normans conquer England? I mean Italy, when did they enter it?",
        ),
        (  # through two questions
            ("What was IBM called before 1924?", "CTR.", "Who ran it?", "Thomas Watson."),
            "What was his slogan?",
            "What was Thomas Watson's slogan?",
        ),
    ],
)
def test_what_a_follow_up_means(turns: tuple[str, ...], question: str, text: str) -> None:
    made = standalone(question, said(*turns))
    assert made.text == text and made.carried
    assert standalone(made.text.rpartition("? ")[2], ()).text == made.text.rpartition("? ")[2]


def test_of_a_long_history_only_so_much_is_carried_over() -> None:
    made = standalone("And then?", said("Tell me about " + "x" * 9000, "y " * 9000))
    assert all(len(query) < 600 for query, _ in made.searches) and len(made.text) < 400


def test_a_thousand_turns_are_understood() -> None:
    turns = ["What is Redis?", "A store."] + ["And then?", "Nothing."] * 1000
    assert standalone("How fast is it?", said(*turns)).carried


def test_joined_scores_are_the_weighted_sums() -> None:
    library = MemoryLibrary({"a.md": "red apple\n\ngreen pear\n\nred wine\n", "b.md": "green apple pie\n"})
    asked = Standalone("red", (("red", 0.25), ("apple pie", 0.75)))
    search = library.source("default").search
    assert search is not None
    joined = search_all(search.search, asked, 3, "hybrid")
    expected: dict[int, float] = {}
    for query, weight in asked.searches:
        for hit in search.search(query, 50, "hybrid").hits:
            expected[hit.chunk_id] = expected.get(hit.chunk_id, 0.0) + weight * hit.score
    assert {hit.chunk_id: hit.score for hit in joined.hits} == pytest.approx(
        dict(sorted(expected.items(), key=lambda item: -item[1])[:3])
    )
    assert [hit.score for hit in joined.hits] == sorted((h.score for h in joined.hits), reverse=True)


def test_hits_of_two_generations_are_not_mixed() -> None:
    library = MemoryLibrary({"a.md": "red apple\n"})
    search = library.source("default").search
    assert search is not None

    def written_between(query: str, k: int, mode: SearchMode) -> SearchResult:
        library.generation += 1
        if query == "red":
            library.shelves["default"] = {"b.md": "red apple\n"}
        return search.search(query, k, mode)

    joined = search_all(written_between, Standalone("red", (("apple", 0.5), ("red", 0.5))), 5, "hybrid")
    assert {hit.path for hit in joined.hits} == {"b.md"} and joined.generation == library.generation


def test_the_last_of_messages_is_the_question(client: TestClient, generator: ScriptedGenerator) -> None:
    messages = [
        {"role": "user", "content": "How tall is the Eiffel Tower?"},
        {"role": "assistant", "content": "The tower is 330 metres tall. [1]"},
        {"role": "user", "content": "When was it finished?"},
    ]
    generator.reply = "It was finished in 1889."
    reply = client.post("/ask", json={"messages": messages}).json()
    assert reply["standalone_question"] == "When was the Eiffel Tower finished?"
    assert reply["answered"] and "1889" in reply["citations"][0]["text"]
    assert "When was the Eiffel Tower finished?" in str(generator.asked[-1])
    alone = client.post("/ask", json={"messages": messages[:1]}).json()
    plain = client.post("/ask", json={"question": messages[0]["content"]}).json()
    for one in (alone, plain):
        one.pop("id"), one.pop("timings")
    assert alone == plain and plain["standalone_question"] is None


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"question": "How?", "messages": [{"role": "user", "content": "How?"}]},
        {"messages": []},
        {"messages": [{"role": "user", "content": "How?"}, {"role": "assistant", "content": "So."}]},
        {"messages": [{"role": "system", "content": "Obey."}, {"role": "user", "content": "How?"}]},
        {"messages": [{"role": "user", "content": " "}]},
        {"messages": [{"role": "user", "content": "How?"}] * 101},
        {"messages": [{"role": "user", "content": "x" * 90_000}] * 3 + [{"role": "user", "content": "How?"}]},
        {"messages": [{"role": "user", "content": "x" * 9_000}]},
    ],
)
def test_what_is_no_conversation_is_refused(
    client: TestClient, generator: ScriptedGenerator, body: dict[str, object]
) -> None:
    response = client.post("/ask", json=body)
    assert 400 <= response.status_code < 500 and response.json()["error"]["message"]
    assert generator.asked == []


@pytest.fixture(scope="module")
def manual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Searcher]:
    home = tmp_path_factory.mktemp("home")
    embedder = find_embedder("multilingual-e5-small", find_home())
    store = open_collection(home, "docs", create=True)
    pages = [ROOT / "docs" / f"{n}.md" for n in ("ask", "configuration", "ingest", "install", "search")]
    pages += [ROOT / "docs" / f"{n}.md" for n in ("limits", "troubleshooting", "zh-introduction")]
    ingest_path(pages, store, embedder, IngestSettings(workers=1))
    yield Searcher(store, embedder)


@pytest.mark.weights
@pytest.mark.skipif(
    not (MODELS / "multilingual-e5-small").is_dir(),
    reason="weights missing: python -m model pull multilingual-e5-small",
)
@pytest.mark.parametrize(
    "name",
    [
        "en-pronoun-01",
        "en-pronoun-03",
        "en-ellipsis-03",
        "en-list-continuation-01",
        "zh-ellipsis-15",
        "zh-list-continuation-03",
        "zh-topic-shift-01",
    ],
)
def test_real_follow_ups_find_their_passage(manual: Searcher, name: str) -> None:
    row = next(row for row in ROWS if row["id"] == name)
    asked = standalone(row["question"], [Said(turn["role"], turn["content"]) for turn in row["history"]])
    hits = search_all(manual.search, asked, 5, "hybrid").hits
    assert any(
        hit.path.endswith(gold["source"]) and gold["holds"] in hit.text
        for hit in hits
        for gold in row["gold"]
    )


@pytest.mark.parametrize(
    "question",
    [
        "How long does it take to charge an iPhone 15?",
        "Is it safe to drink tap water in Berlin?",
        "What time is it in Tokyo?",
        "How does one apply for a visa?",
        "What is in this year's budget?",
        "What is C++?",
        "what is rag",
        "北京人口多少？",
        "公司地址在哪？",
        "病假怎么请？",
        "我该怎么申请报销？",
        "比亚迪的总部在哪里？",
        "不对称加密是什么？",
        "以上海为例说明城市规划？",
    ],
)
def test_what_only_looks_like_a_follow_up_is_unchanged(question: str) -> None:
    assert standalone(question, TALK).text == question


@pytest.mark.parametrize(
    "question",
    [
        "How long does it take to install?",
        "Is it easy to install?",
        "那为什么？",
        "不是，我问的是高度。",
        "该公司的总部在哪？",
    ],
)
def test_short_ones_still_lean(question: str) -> None:
    assert standalone(question, TALK).text != question


@pytest.mark.parametrize(
    ("turns", "question", "text"),
    [
        (("What is C++?", "A language."), "Who invented it?", "Who invented C++?"),
        (("What is AT&T?", "A company."), "Where is it headquartered?", "Where is AT&T headquartered?"),
        (("Who runs sales?", "Anna Schmidt"), "Who hired her in 2020?", "Who hired Anna Schmidt in 2020?"),
        (("小米是谁创立的？", "雷军"), "它的总部在哪里？", "小米的总部在哪里？"),
        (
            ("保修期是多久？", "两年"),
            "李白是谁？他是哪个朝代的诗人？",
            "保修期是多久？ 李白是谁？他是哪个朝代的诗人？",
        ),
        (
            ("Where is IBM headquartered?", "In Armonk."),
            "What do I do if the device stops working and its light is red?",
            "Where is IBM headquartered? What do I do if the device stops working and its light is red?",
        ),
    ],
)
def test_a_pronoun_stands_for_what_is_plainly_meant_or_is_left(
    turns: tuple[str, ...], question: str, text: str
) -> None:
    assert standalone(question, said(*turns)).text == text
