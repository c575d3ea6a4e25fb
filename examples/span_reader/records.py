"""Questions on records: what one of somebody or something is, in tables, JSON, notes and sentences.

    name,age,city          How old is Anna?       25          here
    Anna,25,Oslo           How old is Bertha?     not here: nobody of that name
    Tom,30,Rome            What is Anna's salary? not here: nothing about that

No set of questions that people were asked to write on articles has such passages, and a folder of somebody's
own is full of them. Names, values and wording are drawn from the lists below; files are written as text and
read by the parsers that serve.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from examples.span_reader.passages import LONGEST, SHORTEST, Passage, Question, chunks
from ingest.parse import parse_source
from ingest.parse.source import MIB, Source
from model.spans.pieces import Pieced

#: How many collections of records.
DOCUMENTS = 500
#: Of the questions on a collection: here, of nobody there, of nothing there.
HERE, NOBODY, NOTHING = 3, 2, 1


@dataclass(frozen=True)
class Field:
    """Something that a record tells: its names in files, what may stand there, how it is asked for."""

    names: tuple[str, ...]
    value: Callable[[random.Random], str]
    asked: tuple[str, ...]
    said: str  #: in a sentence


@dataclass(frozen=True)
class Kind:
    """What records are about."""

    key: tuple[str, ...]  #: names of the field that names the record
    name: Callable[[random.Random], str]
    fields: tuple[Field, ...]
    ends: str  #: behind a sentence


def _one(text: str) -> Callable[[random.Random], str]:
    words = text.split("/")
    return lambda draw: draw.choice(words)


def _number(low: int, high: int, form: str = "{}", step: int = 1) -> Callable[[random.Random], str]:
    return lambda draw: form.format(draw.randrange(low, high, step))


def _date(draw: random.Random) -> str:
    return f"{draw.randint(2003, 2026)}-{draw.randint(1, 12):02}-{draw.randint(1, 28):02}"


def _joined(first: str, then: str, between: str = "") -> Callable[[random.Random], str]:
    firsts, thens = first.split("/"), then.split("/")
    return lambda draw: draw.choice(firsts) + between + draw.choice(thens)


_ZH_NAME = _joined(
    "王/李/张/刘/陈/杨/赵/黄/周/吴/徐/孙/胡/朱/高/林/何/郭/马/罗",
    "伟/芳/娜/敏/静/磊/洋/勇/军/杰/娟/涛/超/明/霞/平/刚/桂英/建国/小红/志强/丽华/晓东/雨桐/子涵/思远/文静/海燕/一/三/四/五/六/七",
)
_EN_NAME = _joined(
    "Anna/Tom/Maria/James/Wei/Fatima/Olga/David/Sara/Kenji/Emma/Lucas/Nina/Peter/Ravi/Julia/Mark/Aisha/Leo/Clara/Ivan/Grace",
    "Miller/Schmidt/Rossi/Novak/Chen/Khan/Ivanova/Brown/Lopez/Tanaka/Dubois/Silva/Meyer/Kim/Patel/Larsen/Moore/Haddad/Weber/Costa",
    " ",
)
_ZH_PRODUCT = _joined(
    "星辰/蓝鲸/云杉/青松/极光/海豚/白鹭/飞燕/金牛/银河",
    "X1/X2/S3/Pro/Mini/A5/B7/键盘/耳机/显示器/路由器/打印机/台灯/背包",
)
_EN_PRODUCT = _joined(
    "Aurora/Falcon/Cedar/Delta/Nimbus/Orca/Pioneer/Quartz/Raven/Summit",
    "X1/X2/S3/Pro/Mini/A5/B7/keyboard/headset/monitor/router/printer/lamp/backpack",
    " ",
)
_EMAIL = _joined(
    "anna/tom/wei/info/sales/k.meyer/li/zhang.w/contact/j.kim", "example.com/mail.test/firm.example", "@"
)
_PHONE = _number(13000000000, 13999999999)

KINDS = {
    "zh people": Kind(
        ("姓名", "名字", "员工", "name"),
        _ZH_NAME,
        (
            Field(("年龄", "年龄（岁）", "age"), _number(19, 66), ("{}的年龄是多少？", "{}多大了？", "{}今年几岁？", "{}多少岁？"), "{}今年{}岁"),
            Field(("部门", "所属部门", "department"), _one("研发部/市场部/财务部/人事部/销售部/法务部/客服部/采购部/生产部/设计部"), ("{}在哪个部门？", "{}属于什么部门？", "{}的部门是什么？"), "{}在{}工作"),
            Field(("电话", "手机号", "联系电话", "phone"), _PHONE, ("{}的电话是多少？", "{}的手机号是多少？", "怎么打电话给{}？"), "{}的电话是{}"),
            Field(("职位", "岗位", "title"), _one("工程师/会计/经理/总监/设计师/律师/助理/分析师/翻译/护士/教师/采购员"), ("{}的职位是什么？", "{}是做什么工作的？", "{}担任什么职务？"), "{}的职位是{}"),
            Field(("城市", "所在城市", "city"), _one("北京/上海/广州/深圳/成都/杭州/武汉/西安/南京/重庆/青岛/厦门"), ("{}住在哪个城市？", "{}在哪个城市？", "{}在哪里？"), "{}住在{}"),
            Field(("入职日期", "入职时间", "start_date"), _date, ("{}是什么时候入职的？", "{}的入职日期是哪天？"), "{}于{}入职"),
            Field(("工资", "月薪", "salary"), _number(4000, 39000, "{}元", 500), ("{}的工资是多少？", "{}每个月挣多少钱？"), "{}的月薪为{}"),
            Field(("邮箱", "电子邮件", "email"), _EMAIL, ("{}的邮箱是什么？", "{}的电子邮件地址是什么？"), "{}的邮箱是{}"),
        ),
        "。",
    ),
    "zh products": Kind(
        ("产品", "名称", "型号", "product"),
        _ZH_PRODUCT,
        (
            Field(("价格", "单价", "price"), _number(29, 5999, "{}元"), ("{}的价格是多少？", "{}多少钱？", "买一个{}要多少钱？"), "{}的价格是{}"),
            Field(("库存", "库存数量", "stock"), _number(0, 900), ("{}的库存是多少？", "{}还有多少库存？"), "{}的库存为{}"),
            Field(("重量", "weight"), _number(80, 9000, "{}克"), ("{}有多重？", "{}的重量是多少？"), "{}重{}"),
            Field(("颜色", "color"), _one("红色/蓝色/黑色/白色/银色/绿色/橙色/灰色"), ("{}是什么颜色的？", "{}的颜色是什么？"), "{}是{}的"),
            Field(("产地", "origin"), _one("中国/德国/日本/越南/韩国/法国/意大利/波兰"), ("{}的产地是哪里？", "{}是哪里生产的？"), "{}产于{}"),
            Field(("保修期", "warranty"), _number(1, 60, "{}个月"), ("{}的保修期是多久？", "{}保修多长时间？"), "{}保修{}"),
        ),
        "。",
    ),
    "en people": Kind(
        ("name", "Name", "employee", "full name"),
        _EN_NAME,
        (
            Field(("age", "Age"), _number(19, 66), ("How old is {}?", "What is the age of {}?", "what is {}'s age"), "{} is {} years old"),
            Field(("department", "Dept", "team"), _one("research/marketing/finance/human resources/sales/legal/support/purchasing/design/logistics"), ("Which department is {} in?", "Where does {} work?", "What team is {} on?"), "{} works in {}"),
            Field(("phone", "telephone", "Tel."), _number(2000000, 9999999, "555 {}"), ("What is the phone number of {}?", "What is {}'s phone number?", "How can I call {}?"), "the phone number of {} is {}"),
            Field(("title", "position", "role", "job"), _one("engineer/accountant/manager/director/designer/lawyer/assistant/analyst/translator/nurse/teacher/buyer"), ("What is {}'s job?", "What does {} do?", "What position does {} have?"), "{} is employed as {}"),
            Field(("city", "location", "office"), _one("Berlin/Lyon/Oslo/Rome/Boston/Austin/Leeds/Porto/Turin/Gdansk/Osaka/Nairobi"), ("Which city does {} live in?", "Where is {} based?", "Where does {} live?"), "{} lives in {}"),
            Field(("start_date", "hired", "joined"), _date, ("When did {} join?", "When was {} hired?", "What is the start date of {}?"), "{} joined on {}"),
            Field(("salary", "pay", "Salary"), _number(24000, 99000, "{} EUR", 500), ("What is {}'s salary?", "How much does {} earn?"), "{} earns {}"),
            Field(("email", "e-mail", "Mail"), _EMAIL, ("What is the e-mail address of {}?", "What is {}'s email?"), "the e-mail address of {} is {}"),
        ),
        ".",
    ),
    "en products": Kind(
        ("product", "item", "model", "Name"),
        _EN_PRODUCT,
        (
            Field(("price", "Price", "unit price"), _number(9, 1999, "{} EUR"), ("What is the price of the {}?", "How much does the {} cost?", "how much is a {}"), "the {} costs {}"),
            Field(("stock", "in stock", "quantity"), _number(0, 900), ("How many of the {} are in stock?", "What is the stock of the {}?"), "of the {}, {} are in stock"),
            Field(("weight", "Weight"), _number(80, 9000, "{} g"), ("How heavy is the {}?", "What does the {} weigh?"), "the {} weighs {}"),
            Field(("color", "colour"), _one("red/blue/black/white/silver/green/orange/grey"), ("What color is the {}?", "What is the colour of the {}?"), "the {} is {}"),
            Field(("origin", "made in", "country"), _one("Germany/Japan/Vietnam/Korea/France/Italy/Poland/Mexico"), ("Where is the {} made?", "Which country does the {} come from?"), "the {} is made in {}"),
            Field(("warranty", "guarantee"), _number(1, 60, "{} months"), ("How long is the warranty of the {}?", "What is the warranty on the {}?"), "the {} has a warranty of {}"),
        ),
        ".",
    ),
}  # fmt: skip


def records(draw: random.Random, pieced: Pieced) -> Iterator[tuple[Question, Passage, bool]]:
    """Questions with passages, and whether the passage answers."""
    for number in range(DOCUMENTS):
        kind = KINDS[draw.choice(list(KINDS))]
        fields = draw.sample(kind.fields, draw.randint(2, min(5, len(kind.fields) - 1)))
        names = list(dict.fromkeys(kind.name(draw) for _ in range(draw.randint(3, 10))))
        absent = [
            name
            for name in (kind.name(draw) for _ in range(20))
            if not any(name in n or n in name for n in names)
        ]
        rows = [[field.value(draw) for field in fields] for _ in names]
        text = _written(kind, fields, names, rows, draw)
        cut = chunks(text, draw.randint(SHORTEST, LONGEST), pieced)
        passages = [Passage(number, text[a:b], "") for a, b in cut]
        asks = [(i, j) for i in range(len(names)) for j in range(len(fields))]
        for i, j in draw.sample(asks, min(HERE, len(asks))):
            question = draw.choice(fields[j].asked).format(names[i])
            said = fields[j].said.format(names[i], rows[i][j])
            found = [
                (p, at)
                for p in passages
                if (at := _place(p.text, said, names[i], names, rows[i][j])) is not None
            ]
            if len(found) == 1:
                passage, at = found[0]
                yield Question(question, (rows[i][j],), number, 0, at, at + len(rows[i][j])), passage, True
        for name in absent[:NOBODY]:
            question = draw.choice(draw.choice(fields).asked).format(name)
            yield Question(question, (), number, None), draw.choice(passages), False
        missing = [field for field in kind.fields if field not in fields]
        for _ in range(NOTHING):
            question = draw.choice(draw.choice(missing).asked).format(draw.choice(names))
            yield Question(question, (), number, None), draw.choice(passages), False


def _place(text: str, said: str, name: str, names: Sequence[str], value: str) -> int | None:
    """Where a record's value stands: in its sentence, or else the one place behind its name and before the next.

    None where that is unsure.
    """
    if text.count(said[1:]) == 1:
        return text.index(said[1:]) + said[1:].rindex(value)
    begin = text.find(name)
    if begin < 0 or text.count(name) != 1 or any(name != n and name in n for n in names):
        return None
    ends = [at for n in names if n != name and (at := text.find(n, begin + len(name))) >= 0]
    row = text[begin : min(ends, default=len(text))]
    if row.count(value) != 1 or value in name:
        return None
    return begin + row.index(value)


def _written(
    kind: Kind,
    fields: Sequence[Field],
    names: Sequence[str],
    rows: Sequence[Sequence[str]],
    draw: random.Random,
) -> str:
    """The records as a parser gives them from a file of some form."""
    english = draw.random() < 0.3
    heads = [(kind.key[-1] if english else draw.choice(kind.key))]
    heads += [field.names[-1] if english else draw.choice(field.names) for field in fields]
    lines = [[name, *row] for name, row in zip(names, rows, strict=True)]
    form = draw.choice(["json", "nested.json", "csv", "md", "notes.txt", "sentences.txt"])
    if form.endswith("json"):
        values = [[int(cell) if cell.isdecimal() else cell for cell in line] for line in lines]
        value: object = [dict(zip(heads, line, strict=True)) for line in values]
        # Within an object the parser makes no table of it.
        text = json.dumps({heads[0] + "s": value} if form == "nested.json" else value, ensure_ascii=False)
    elif form == "csv":
        text = "\n".join(",".join(line) for line in [heads, *lines])
    elif form == "md":
        rule = ["---"] * len(heads)
        text = "\n".join("| " + " | ".join(line) + " |" for line in [heads, rule, *lines])
    elif form == "notes.txt":
        colon = draw.choice([": ", "：", " = "])
        text = "\n\n".join(
            "\n".join(head + colon + cell for head, cell in zip(heads, line, strict=True)) for line in lines
        )
    else:
        told = [
            [field.said.format(line[0], cell) for field, cell in zip(fields, line[1:], strict=True)]
            for line in lines
        ]
        between = kind.ends + ("" if kind.ends == "。" else " ")
        text = between.join(s[0].upper() + s[1:] for some in told for s in some) + kind.ends
    data = text.encode()
    source = Source(Path(form), f"records.{form}", MIB, suffix="." + form.rpartition(".")[2], data=data)
    return parse_source(source).text
