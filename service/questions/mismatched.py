"""Answers that cannot be right whatever the passage says: a person for 什么时候, a month for "what time".

Narrow on purpose: English questions for a number or a day are left alone, since any event may tell when
something was.
"""

from __future__ import annotations

import re

from service.questions.wanted import asked

#: A time of day is asked for, and what every such time has.
_CLOCK = re.compile(
    r"^(?:at |by |until |from )?what time (?:do|does|is|are|will|can|should|must)\b", re.IGNORECASE
)
_TELLS_CLOCK = re.compile(
    r"\d\s?[:.h]\s?\d\d|\d\s?(?:[ap]\.?m\b|o['’]clock|hours|hrs)|\d+[点點时時]"
    r"|\b\d{4}\b(?=\s*(?:hours|hrs|h|utc|gmt))"
    r"|\b(?:noon|midnight|mid-?day|morning|afternoon|evening|night|dawn|dusk|sun(?:set|rise)"
    r"|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|half|quarter|hours?"
    r"|after|before|any ?time|day(?:time)?|year)\b",
    re.IGNORECASE,
)
#: A time is asked for, or a number; and what every time, or number, has a sign of.
_TIME_ZH = re.compile(
    r"什[么麼](?:时候|時候|时间|時間)|何[时時]|[几幾][点點](?!到)|哪一?[天年日]|[几幾][月号號]"
)
_NUMERAL_ZH = r"\d零〇一二三四五六七八九十百千万萬亿億两兩半"
_TELLS_TIME_ZH = re.compile(
    rf"[{_NUMERAL_ZH}年月日号號天周週点點时時分秒季春夏秋冬早晚夜晨午昏初末底前后後间間期今明昨当當旬世纪紀代节節朝汉漢魏晋晉唐宋元清帝阶階]|[战戰][国國]"
    r"|立即|立刻|马上|馬上|随|隨|\b[AaPp]\.?[Mm]\b|\b(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
)
_NUMBER_ZH = re.compile(
    r"多少(?![?？]?$)|(?<![哪那第])[几幾](?:[个個名位家款种種次件台只张張本所层層岁歲人口]|倍)"
)
_TELLS_NUMBER_ZH = re.compile(rf"[{_NUMERAL_ZH}无無没沒不全免少多数數些]|[a-z]", re.IGNORECASE)


def is_of_another_kind(question: str, words: str) -> bool:
    """Whether a few words cannot answer a question for a time of day, or a Chinese one for time or number."""
    part = asked(question)
    if _CLOCK.search(part) is not None and _TELLS_CLOCK.search(words) is None:
        return True
    return (_TIME_ZH.search(part) is not None and _TELLS_TIME_ZH.search(words) is None) or (
        _NUMBER_ZH.search(part) is not None and _TELLS_NUMBER_ZH.search(words) is None
    )
