"""Which stretches of a text speak to a model: marks of chats and dialogues, orders, claims to be the answer.

Words alone decide, in English and Chinese (both scripts), whatever their width and with unseen characters
left out. One order is enough. A claim ("the correct answer is") is ordinary by itself; two kinds of claims in
one passage are not. Of 14,662 passages of encyclopedias and news (SQuAD, NQ, CMRC, DRCD, RGB) none has such a
stretch.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise

from service.reading import select
from service.reading.readings import Span
from service.sentences import split

#: A sentence behind an order that has fewer words is what was ordered.
FRAGMENT = 4

#: Marks between the turns of common chat templates; a pair of bars with blanks only around a known word,
#: since some programming languages have operators that look alike.
_MARK = re.compile(
    r"<\|[^\s<>|]{1,40}\|>|<\s?\|\s?(?:im_start|im_end|system|user|assistant|endoftext|eot_id)\s?\|\s?>"
    r"|\[/?INST\]|<</?SYS>>|</s>|</?think(?:ing)?>|<(?:start|end)_of_turn>|<(?:bos|eos)>"
    r"|</?(?:assistant|system)>",
    re.IGNORECASE,
)
#: Of these, the ones that end a turn.
_CLOSES = re.compile(
    r"im_end|eot_id|end_of_turn|end_?of_?text|end.of.sentence|\|end\||<eos>|^</(?:s|assistant|system)>$",
    re.IGNORECASE,
)
#: Labels of a dialogue with a model, at the beginning of a line or behind a sentence.
_LINE = r"(?:^|(?<=[.?!。>]))[ \t>*]*"
_ASSISTANT = re.compile(
    rf"{_LINE}(?:(?:assistant|AI|chat ?bot|gpt|助手|助理|机器人|機器人)[ \t*]*"
    r"|#{1,6} *(?:assistant|response) *):|[\"']role[\"']\s*:\s*[\"']assistant[\"']",
    re.IGNORECASE | re.MULTILINE,
)
_OTHER = re.compile(
    rf"{_LINE}(?:(?:user|human|system|用户|用戶|使用者|系统|系統)[ \t*]*"
    r"|#{1,6} *(?:user|human|system|instructions?) *):|[\"']role[\"']\s*:\s*[\"'](?:user|system)[\"']",
    re.IGNORECASE | re.MULTILINE,
)

_MODEL = (
    r"(?:(?:large |small )?language models?|llms?|ais?(?: (?:assistants?|models?|agents?|readers?|systems?"
    r"|bots?))?|chat ?bots?|(?:virtual |digital )?assistant|(?:chat)?gpt(?:-\w+)?|answering (?:system|model))"
)
_BEGINS = (
    r"(?:^|[.!?:;,。\n(\"“—–]\s*|\b(?:please|must|should|shall|and|then|now|also|always|just|to|you"
    r"|simply)\s+)"
)
_BEFORE = r"(?:previous|prior|earlier|preceding|above|foregoing|other|remaining)"
_TOLD = (
    r"(?:instructions?|rules?|text|context|messages?|passages?|sources?|documents?|pages?|content|input"
    r"|tasks?|answers?|orders?|prompts?|directions?|directives?|guidelines?|conversation)"
)
#: Who writes to people takes back what they wrote before: "ignore my previous message".
_NO_LETTER = r"(?!(?:my|our) (?:\w+ ){0,2}(?:messages?|e-?mails?|letters?|notes?|posts?|requests?)\b)"
#: What a model is told to do, behind its name.
_TO_DO = (
    r"(?:you|your|please|do|don|when|if|ignore|answer|say|reply|respond|always|never|output|repeat|print"
    r"|the (?:answer|correct|right|only))\b"
)
_MODEL_ZH = "(?:AI|人工智能|人工智慧|大?语言模型|大?語言模型|大模型|聊天机器人|聊天機器人)(?:助手|助理|模型)?"
#: What orders a model about: one of these is enough.
_ORDERS = tuple(
    re.compile(pattern, re.IGNORECASE | re.MULTILINE)
    for pattern in (
        # Drop what you were told.
        rf"{_BEGINS}(?:ignore|disregard|forget|do(?: not|n['’]t) (?:follow|obey|use|trust|believe|read)"
        rf"|pay no attention to|stop following)\s+{_NO_LETTER}"
        rf"(?:[\w'’]+[\s,]+){{0,4}}?(?:{_BEFORE} (?:\w+ )?{_TOLD}\b"
        rf"|your (?:\w+ )?{_TOLD}\b|(?:all |any |the |these |those )*(?:instructions?|system prompts?)"
        r"|sources?\s*\[?\d|(?:everything|anything|whatever|all|what)\b[^.!?\n]{0,20}\b(?:above|before|told"
        r"|said|given|else)\b|the (?:question|passages?|above"
        r"|user(?![ -]?(?:agents?|names?|ids?|interface|manual|guide)))\b)",
        rf"{_BEGINS}(?:override|bypass|discard|drop|abandon)\s+(?:[\w'’]+[\s,]+){{0,4}}?"
        rf"(?:your (?:\w+ )?{_TOLD}"
        rf"|(?:previous|prior|earlier|preceding|above) (?:\w+ )?(?:instructions?|prompts?|directives?"
        rf"|guidelines?|tasks?))\b",
        # You, the model.
        r"\b(?:attention|dear|hey|hello|(?:note|message|instructions?|notice) (?:to|for))\b[,:!]?"
        rf" (?:the |any |all |every |an? )?(?:\w+ )?{_MODEL}\b\s*[:,!.]",
        rf"^\s*(?:to|for) (?:(?:the|any|all|every|an?) (?:\w+ )?{_MODEL}\b\s*[:,!.]"
        rf"|(?:\w+ )?{_MODEL}\b\s*[:,!.]\s*{_TO_DO})",
        rf"(?:^|[.!?]\s+){_MODEL}\s*[,:!]\s*{_TO_DO}",
        rf"\b(?:you are|you're|act as|pretend to be) (?:now )?(?:an? |the )?(?:\w+ ){{0,2}}{_MODEL}\b",
        r"\byou are (?:now|henceforth) (?:in \w+ mode|unrestricted|jailbroken|free (?:of|from)|dan\b)",
        r"\bas an (?:ai(?: (?:language )?model| assistant)?,|(?:ai|large) language model)",
        # Say this.
        r"\b(?:answer|reply|respond)(?:ing)? (?:only|solely|exclusively|exactly|just) (?:with\b|by\b"
        r"|[\"'“‘「『:])",
        r"\b(?:answer|reply|respond|answered|output|say|print)\b[^.!?\n]{0,30}\b(?:only|just|with"
        r"|exactly) (?:the |these |this )?(?:single |exact |exactly |following |only |just )+(?:the )?"
        r"(?:words?|phrase|sentence|string|text|line)\b",
        r"\b(?:say|answer|reply|write|output|print|return)\b[^.!?\n]{1,60}(?:\band nothing (?:else|more)"
        r"|[, ]+(?:and |then )+(?:stop|terminate|halt|end)\W*$)",
        r"\bquestions? (?:about|on|regarding|concerning)\b[^.!?\n]{0,200}\b(?:must|should|shall|has to"
        r"|have to|is to|are to) (?:always |only )?be (?:answered with|answered by saying|refused|declined"
        r"|rejected)",
        r"\b(?:whoever|any(?:one|body|thing)|every(?:one|body)"
        r"|any (?:reader|system|program))\b[^.!?\n]{0,60}\b(?:answers?|summari[sz]es?|quotes?|cites?"
        r"|is asked)\b[^.!?\n]{0,80}\b(?:must|should|shall|has to|have to|is to) (?:\w+ )?(?:say|answer"
        r"|reply|respond|write|state|output|report|repeat|refuse)\b",
        r"\bwh(?:atever|ichever)[^.!?\n]{0,20}\buser asks\b",
        # The same in Chinese, both scripts.
        r"(?:忽略|无视|無視|忘记|忘記|忘掉|抛开|拋開|(?:不要|不必|别|別)(?:理会|理會|管|相信|使用"
        r"|遵守))[^。!?\n]{0,12}(?:指令|指示|提示词|提示詞|规则|規則|以上|上述|之前|此前|前面"
        r"|(?:其他|其它|别的|別的)(?:来源|來源|资料|資料|文档|文檔|文件|段落|内容|內容))",
        rf"(?:^|[。!?\n,]\s*)(?:(?:致|给|給|请|請)(?:所有|各位|任何)?|所有|各位|任何){_MODEL_ZH}\s*"
        rf"(?:[:,]|请|請|注意|必须|必須)",
        rf"(?:^|[。!?\n]\s*){_MODEL_ZH}\s*(?:[:,]\s*)?(?:请(?!假|求)|請(?!假|求)|注意(?!力)|[你您]|忽略|无视|無視"
        r"|(?:必须|必須)(?:说|說|回答|回复|回覆|输出|輸出|告诉|告訴|忽略|引用|拒绝|拒絕))",
        r"你(?:现在|現在)?是(?:一个|一個|一名)?[^。!?\n]{0,8}(?:助手|助理|语言模型|語言模型|人工智能|机器人"
        r"|機器人)",
        r"(?:无论|無論|不管|不论|不論)(?:用户|用戶|别人|別人|对方|對方|谁|誰|任何人)?(?:问|問|提问|提問)",
        r"(?:请|請|必须|必須|应当|應當|一律|务必|務必)(?:只|仅|僅)?(?:拒绝|拒絕)?(?:回答|回复|回覆|输出"
        r"|輸出)[^。!?\n]{0,4}[:「『“\"]|(?:请|請|必须|必須|一律|务必|務必)(?:拒绝|拒絕|不要|不得)(?:回答"
        r"|回复|回覆)",
    )
)
#: What speaks of answers, proofs and other passages as only somebody does who wants to be the answer. One of
#: these is ordinary; two kinds of them in one passage are not.
_CLAIMS = tuple(
    re.compile(pattern, re.IGNORECASE | re.MULTILINE)
    for pattern in (
        r"\b(?:only|correct|right|checked|verified|official|final|permitted|allowed|approved|authoritative"
        r"|true) (?:answer|output|response|reply)\b|\banswer to (?:this|any|every|all|each"
        r"|your) (?:\w+ )?questions?\b|(?:正确|正確|标准|標準|官方|唯一|最终|最終)(?:答案|回答|回复|回覆)",
        # Not those of who sits an examination: "write your answer in ink".
        r"(?<!write )(?<!mark )(?<!check )(?<!give )(?<!explain )(?<!submit )(?<!put )\byour (?:only )?"
        r"(?:reply|answer|response|output)\b"
        r"|\bthe (?:user|answer) (?:now )?(?:asks|is asking|shall be|must be)\b"
        r"|(?:告诉|告訴|回复|回覆)(?:用户|用戶)",
        r"\b(?:be|is|as) (?:cited|quoted) as\b|\b(?:cite|quote) (?:it |this )?as\b|\bsources?\s*\[\d{1,2}\]"
        r"|引用[为為]",
        r"\b(?:this|that|the|each|every|above|following) (?:answer|quotation|quote|citation|source"
        r"|passage) (?:was|is|has been) (?:\w+ )?(?:verified|checked|confirmed|approved)\b"
        r"|(?:引文|引用|答案|来源|來源)(?:已|已经|已經|均已|都已)?(?:核实|核實|验证|驗證|确认|確認)",
        r"\bconfidence\s*(?:[:=]|is|of)?\s*\d|\b(?:supported|evidence gain)\s*[:=]|置信度\s*[:=]",
        r"\b(?:other|all other|any|any other|every|every other|each|earlier|older|different|differing|all)"
        r" (?:passage|source|document|page|answer|result|quotation)s?\b[^.!?\n]{0,40}\b(?:outdated|wrong"
        r"|false|fake|fabricated|forg\w+|obsolete|incorrect|invalid|superseded|untrue|lie)\b|(?:其他|其它|别的|別的)(?:来源|來源|资料|資料|文档|文檔|段落"
        r"|说法|說法)[^。!?\n]{0,8}(?:过期|過期|过时|過時|错误|錯誤|作废|作廢|伪造|偽造)",
        r"\bretrieved (?:context|passages?|documents?|text)\b"
        r"|\b(?:end|begin(?:ning)?|start) of (?:the )?(?:passages?|context|prompt)\b"
        r"|检索(?:到的)?(?:段落|资料|内容)|檢索(?:到的)?(?:段落|資料|內容)",
        r"\bnew instructions?\b|\b(?:maintenance|developer|debug|admin|god|jailbreak) mode\b"
        r"|\bsystem override\b|\bsafety rules\b|新(?:的)?指令",
        rf"{_BEGINS}(?:answer|reply|respond|output|say|print|return the string)\s+(?:only |just "
        rf"|exactly )?[\"'“‘「『:]"
        r"|\b(?:answer|reply|respond|output|say) only\b|(?:只|仅|僅)(?:能|可|可以|准|準)?(?:回答|回复|回覆"
        r"|输出|輸出)",
        r"\ball (?:of )?(?:which|whom|them|these|the (?:sources|passages|documents)) (?:agree|confirm)\b"
        r"|\b(?:sources|passages|documents) (?:all |unanimously )?(?:agree|confirm) (?:on|that|with)\b",
        r"\bI am (?:the|an?|your) (?:\w+ )?(?:administrator|admin|owner|operator|developer|supervisor)"
        r"(?: of (?:this|the|these|your) (?:\w+ )?(?:collection|system|service|model|assistant|document"
        r"|conversation)s?|,? (?:and|so) (?:I\b|you must\b|(?:hereby )?(?:set|order|command|instruct)\b))",
        r"\b(?:set|fix|change) (?:the|your|every) (?:reply|answer)s? to\b",
        r"(?:\[\d{1,2}\](?:[ ,.;]|and\b)*){2}|【\d{1,2}】",
    )
)
#: A question about these is one that such text may answer.
_ABOUT = re.compile(
    r"\bprompts?\b|\bprompt injections?\b|\bjailbreak\w*|\bchats?\b|\bchat ?bots?\b|\bllms?\b"
    r"|\blanguage models?\b|\b(?:ai|virtual|chat) (?:assistants?|models?|agents?|systems?)\b"
    r"|\bassistants?\b|\bspecial tokens?\b|\bcontrol tokens?\b|\bsystem (?:message|turn|role)s?\b"
    r"|\bthe (?:model|user|system) (?:says?|turn|role)\b|\bfake turns?\b|\bgpt\b|\btranscripts?\b"
    r"|\borders? to (?:the )?models?\b|\bgives? orders\b|提示词|提示詞|提示注入|越狱|越獄|聊天|语言模型"
    r"|語言模型|大模型|助手|机器人|機器人|特殊标记|特殊標記|对话|對話",
    re.IGNORECASE,
)
#: How a sentence behind an order goes on with it.
_GOES_ON = re.compile(
    r"^\W*(?:please |then |instead,? |and |always |only |just )*(?:say|answer|reply|respond|write|output"
    r"|print|return|repeat|tell|state|claim|refuse)\b"
    r"|^\W*(?:请|請|并|並|只|就|然后|然後)*(?:说|說|回答|回复|回覆|输出|輸出|告诉|告訴|拒绝|拒絕)",
    re.IGNORECASE,
)
#: What stands between the end of a turn and what comes behind it.
_EDGE = re.compile(r"[\s.,;:!?。、]*")
_INLINE_CODE = re.compile(r"`[^`\n]+`")
#: A label with a few words on its line, without a stop.
_FIELD = re.compile(
    r"[^:：\n#]{1,24}[:：][^\n.?!。？！]{0,24}(?:\n[^\n:：#]{1,24}[:：][^\n.?!。？！]{0,24})*"
)
#: Characters that are not seen.
_UNSEEN = re.compile(r"[\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff]|[\U000e0000-\U000e007f]")


def asks_about(question: str) -> bool:
    """Whether a question asks about prompts, chats, models or orders to them, or has such a mark itself."""
    return bool(_ABOUT.search(question) or _MARK.search(_plain(question)[0]))


def silent(text: str, *, dialogues: bool = True) -> list[Span]:
    """The stretches of a text that speak to a model, in order and apart.

    Args:
        text: of a passage.
        dialogues: whether a dialogue with a model is such a stretch.
    """
    plain, at = _plain(text)
    sentences = [(s.start, s.end, s.kind) for s in split(text)]
    code = [(a, b) for a, b, kind in sentences if kind == "code"]
    code += [found.span() for found in _INLINE_CODE.finditer(text)]
    marks = [m for m in _MARK.finditer(plain) if not (_inside(at[m.start()], code) or _struck(plain, m))]
    found = [(_begin(sentences, at[a]), at[b]) for a, b in _turns(marks, plain)]
    talk = dialogue(text) if dialogues else None
    if talk is not None:
        found.append((_begin(sentences, talk), len(text)))
    found += [(start, end) for start, end in _hidden(text) if not _inside(start, code)]
    found += _orders(text, sentences)
    return _joined(found)


def dialogue(text: str) -> int | None:
    """Where a dialogue of a model and somebody else begins; None without one, or in code."""
    plain, at = _plain(text)
    code = [(s.start, s.end) for s in split(text) if s.kind == "code"]
    said = sorted(
        (at[m.start()], label is _ASSISTANT)
        for label in (_ASSISTANT, _OTHER)
        for m in label.finditer(plain)
        if not _inside(at[m.start()], code)
    )
    if len({model for _, model in said}) < 2:
        return None
    whole = [text[a:b].strip() for (a, _), (b, _) in pairwise([*said, (len(text), True)])]
    # Each once, and a few words behind it: the fields of a form ("Assistant: Mary Smith, User: bob01").
    return None if len(said) == 2 and all(_FIELD.fullmatch(part) for part in whole) else said[0][0]


def _hidden(text: str) -> Iterator[Span]:
    """The comments of HTML, which no page shows; one that nothing ends, where it begins a line."""
    at = 0
    while (start := text.find("<!--", at)) >= 0:
        closed = text.find("-->", start)
        at = len(text) if closed < 0 else closed + len("-->")
        if closed >= 0 or not text[text.rfind("\n", 0, start) + 1 : start].strip():
            yield start, at


def _struck(plain: str, mark: re.Match[str]) -> bool:
    """Whether a mark ends words that are struck out, as HTML writes them."""
    line = plain[plain.rfind("\n", 0, mark.start()) + 1 : mark.start()]
    return mark[0].casefold() == "</s>" and "<s>" in line.casefold()


def _turns(marks: Sequence[re.Match[str]], plain: str) -> Iterator[Span]:
    """Fake turns: each from its first mark to the one that ends it, or to the end of the text."""
    begun: int | None = None
    opened = False
    for n, mark in enumerate(marks):
        begun = mark.start() if begun is None else begun
        closes = _CLOSES.search(mark[0]) is not None
        following = marks[n + 1].start() if n + 1 < len(marks) else len(plain)
        if closes and opened and plain[mark.end() : following].strip():
            yield begun, _past(plain, mark.end())
            begun, opened = None, False
        else:
            opened |= not closes
    if begun is not None:
        closed = opened and _CLOSES.search(marks[-1][0]) is not None
        yield begun, _past(plain, marks[-1].end()) if closed else len(plain)


def _past(plain: str, place: int) -> int:
    """The place behind white space and stops."""
    edge = _EDGE.match(plain, place)
    return edge.end() if edge else place


def _orders(text: str, sentences: Sequence[tuple[int, int, str]]) -> Iterator[Span]:
    """Sentences that order, or claim to be the answer; and fragments behind an order."""
    units = list(_units(text, sentences))
    plain = [_plain(text[start:end])[0] for start, end in units]
    orders = [any(order.search(unit) for order in _ORDERS) for unit in plain]
    claims = [{n for n, claim in enumerate(_CLAIMS) if claim.search(unit)} for unit in plain]
    kinds = set[int]().union(*claims) if claims else set()
    claimed = len(kinds) > 1 or any(orders)
    behind = False
    for span, unit, order, claim in zip(units, plain, orders, claims, strict=True):
        wanted = order or (claimed and bool(claim - {len(_CLAIMS) - 1} or len(claim) > 1))
        goes_on = behind and (_GOES_ON.search(unit) is not None or len(select.words(unit)) < FRAGMENT)
        if wanted or goes_on:
            yield span
        behind = order or goes_on


def _units(text: str, sentences: Sequence[tuple[int, int, str]]) -> Iterator[Span]:
    """Sentences; of code, its lines."""
    for start, end, kind in sentences:
        if kind != "code":
            yield start, end
            continue
        for line in re.finditer(r"[^\n]+", text[start:end]):
            yield start + line.start(), start + line.end()


def _begin(sentences: Collection[tuple[int, int, str]], place: int) -> int:
    """Where the sentence begins in which a place is."""
    return next((start for start, end, _ in sentences if start <= place < end), place)


def _inside(place: int, spans: Sequence[Span]) -> bool:
    return any(start <= place < end for start, end in spans)


def _plain(text: str) -> tuple[str, list[int]]:
    """The text without characters that are not seen, wide letters as plain ones; and where each was."""
    kept = [n for n, char in enumerate(text) if not _UNSEEN.match(char)]
    return "".join(_narrow(text[n]) for n in kept), [*kept, len(text)]


def _narrow(char: str) -> str:
    plain = char if char.isascii() else unicodedata.normalize("NFKC", char)
    return plain if len(plain) == 1 else char


def _joined(spans: Collection[Span]) -> list[Span]:
    """The spans in order, overlapping ones as one."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        elif start < end:
            found.append((start, end))
    return found
