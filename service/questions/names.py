"""Names in a question, told by how they are written: what the documents must mention to be asked about it.

In English a name is a word with a capital that begins no sentence (Slack, Raspberry), or one with a further
capital (NotebookLM); in a Chinese question any word that is written so. Words in capitals alone are left out:
GPU and CEO are kinds of things, which documents may call by other words. So are months and days.

Invariant: other languages have no names here, since some write every noun with a capital.
"""

from __future__ import annotations

import re

from service import evidence

_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_WORD = re.compile(
    r"(?<![A-Za-z0-9_./-])[^\W\d_\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"
    r"(?:[^\W_\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[+#.'’-])*"
)
_BEGINS = re.compile(r"(?:^|[.?!:;])[\s\"'“‘(]*$")
_CALENDAR = re.compile(
    r"(?:(?:mon|tues|wednes|thurs|fri|satur|sun)days?|january|february|march|april|may|june|july|august|september"
    r"|october|november|december|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)\.?(?:['’]s)?",
    re.IGNORECASE,
)
#: Who is greeted, and the language that is asked for: both are said to whoever answers.
_ADDRESS = re.compile(
    r"^\W*(?:hi|hello|hey|dear|good (?:morning|afternoon|evening))\b[^,.!?\n]{0,40}[,.!\n]"
    r"|\b(?:answer|reply|respond|translate|summari[sz]e|explain|write)\b[^.?!\n]{0,30}?\b(?:in|to|into)"
    r" (?:English|French|German|Spanish|Italian|Portuguese|Russian|Chinese|Mandarin|Japanese|Korean)\b"
    r"|用\s*(?:English|French|German|Spanish|Japanese)\s*(?:来)?(?:回答|回复|说)",
    re.IGNORECASE,
)
#: Nouns that people write with a capital, though they name nothing, and contractions of "I".
_COMMON = re.compile(
    r"I['’](?:m|ve|ll|d|s|re)|(?:mr|mrs|ms|dr|prof)\.?|wi-?fi|ok|(?:e-?mail|app|manual|handbook|guide|section|article|chapter|table|figure|appendix|page|document"
    r"|dollar|euro|pound|internet|policy|policies|plan|period|fee|price|cost|password|account|address|number|date|team"
    r"|department|office|service|support|contract|agreement|project|report|invoice|order|customer|employee"
    r"|manager|notice|refund|company|meeting|list|name|website)s?(?:['’]s)?",
    re.IGNORECASE,
)
_PEOPLES = """
american:america arab:arabia argentine:argentina australian:australia austrian:austria
belgian:belgium brazilian:brazil british:britain bulgarian:bulgaria canadian:canada chilean:chile
chinese:china colombian:colombia croatian:croatia cuban:cuba czech:czechia danish:denmark
dutch:netherlands egyptian:egypt english:england ethiopian:ethiopia european:europe finnish:finland
french:france german:germany greek:greece hungarian:hungary icelandic:iceland indian:india
indonesian:indonesia iranian:iran iraqi:iraq irish:ireland israeli:israel italian:italy
japanese:japan kenyan:kenya korean:korea malaysian:malaysia mexican:mexico moroccan:morocco
nigerian:nigeria norwegian:norway pakistani:pakistan peruvian:peru polish:poland portuguese:portugal
romanian:romania russian:russia saudi:arabia scottish:scotland serbian:serbia singaporean:singapore
slovak:slovakia spanish:spain swedish:sweden swiss:switzerland taiwanese:taiwan thai:thailand
turkish:turkey ukrainian:ukraine vietnamese:vietnam welsh:wales african:africa asian:asia
"""
#: Whose country the documents may mention instead: the French capital is the capital of France.
COUNTRIES = dict(pair.split(":") for pair in _PEOPLES.split())
#: Share of the words in small letters that are grammar, from which on a question is English.
_ENGLISH = 1 / 3


def names(question: str) -> list[str]:
    """The names that a question has, in its order."""
    question = _ADDRESS.sub(lambda found: " " * (len(found[0]) - 1) + ".", question)
    words = list(_WORD.finditer(question))
    chinese = _CJK.search(question) is not None
    if not chinese and not _english([word[0] for word in words if word[0].islower()]):
        return []
    found = []
    for word in words:
        name = word[0].rstrip(".'’-")
        if (
            name.islower()
            or name.removesuffix("s").isupper()
            or _CALENDAR.fullmatch(name)
            or _COMMON.fullmatch(name)
            or not evidence.terms(name.casefold())
        ):
            continue
        if chinese or not name.istitle() or not _BEGINS.search(question[: word.start()]):
            found.append(name)
    return found if chinese or len(found) * 2 <= len(words) else []  # a headline: every word has a capital


def _english(words: list[str]) -> bool:
    grammar = sum(not evidence.terms(word) for word in words)
    return bool(words) and grammar >= _ENGLISH * len(words)
