"""How the files beside this one were written: `python make.py` writes them anew.

Needs LibreOffice (`soffice`) and pandoc on the path, openpyxl, Pillow and the project itself. It is not part of
the tests: they read the files. `facts.json` says of each suffix which file has it, which program wrote that,
and where a fact stands in it.
"""

from __future__ import annotations

import json
import mailbox
import subprocess
import tempfile
import zipfile
from email.message import EmailMessage
from pathlib import Path

import openpyxl
from PIL import Image, ImageDraw, ImageFont

HERE = Path(__file__).parent
FACTS: dict[str, dict[str, object]] = {}

TEXT = """---
title: Tide stations
author: Ada Lovell
---

# Harbour

The station at Lantern Bay opened in 1911.

## Instruments

- a float gauge
- a radar gauge, which measures every 6 minutes

# Heights

| Station | Mean height | Highest |
| --- | --- | --- |
| Lantern Bay | 2.41 m | 4.87 m |
| Gull Rock | 1.98 m | 3.65 m |

After the table comes the 潮位站 of the north, 海拔 17 米.
"""
SLIDES = """% Tide stations
% Ada Lovell

# Where we measure

- Lantern Bay
    - a float gauge

# What it costs

The radar gauge cost 7,350 crowns.

::: notes
Say that the spare part took 11 weeks.
:::
"""
CODE = {
    "c": "int tide(int hour) {\n    return 41 + hour;\n}\n",
    "cc": "namespace tides {\nint tide(int hour) { return 42 + hour; }\n}\n",
    "cpp": "class Station {\n  public:\n    int tide() { return 43; }\n};\n",
    "cs": "public class Station\n{\n    public int Tide() { return 44; }\n}\n",
    "css": ".station {\n  width: 45px;\n}\n",
    "go": "package tides\n\nfunc Tide(hour int) int {\n\treturn 46 + hour\n}\n",
    "h": "struct station {\n    int tide; /* 47 */\n};\n",
    "hpp": "class Station {\n    int tide = 48;\n};\n",
    "java": "public class Station {\n    public int tide() {\n        return 49;\n    }\n}\n",
    "js": "const base = 1;\nfunction tide(hour) {\n  return 50 + hour;\n}\n",
    "jsx": "export const Tide = (props) => {\n  return <b>{51 + props.hour}</b>;\n};\n",
    "kt": "class Station {\n    fun tide(): Int = 52\n}\n",
    "lua": "local function tide(hour)\n  return 53 + hour\nend\n",
    "php": "<?php\nfunction tide($hour) {\n    return 54 + $hour;\n}\n",
    "pl": "sub tide {\n    return 55 + shift;\n}\n",
    "ps1": "function Get-Tide {\n    return 56\n}\n",
    "py": "class Station:\n    def tide(self) -> int:\n        return 57\n",
    "r": "tide <- function(hour) {\n  58 + hour\n}\n",
    "rb": "class Station\n  def tide\n    59\n  end\nend\n",
    "rs": "pub fn tide(hour: u32) -> u32 {\n    60 + hour\n}\n",
    "scala": "object Station {\n  def tide(hour: Int): Int = 61 + hour\n}\n",
    "sh": "#!/bin/sh\ntide() {\n    echo 62\n}\n",
    "sql": "CREATE TABLE station (\n    height integer DEFAULT 63\n);\n",
    "swift": "struct Station {\n    func tide() -> Int { 64 }\n}\n",
    "ts": "export function tide(hour: number): number {\n  return 65 + hour;\n}\n",
    "tsx": "export function Tide(): Element {\n  return <b>{66}</b>;\n}\n",
}
NAMES = {  # what the section with the number is called
    "cpp": "Station", "cs": "Tide", "css": ".station", "go": "Tide", "h": "station", "hpp": "Station",
    "jsx": "Tide", "ps1": "Get-Tide", "sql": "station", "tsx": "Tide",
}  # fmt: skip
PLAIN = {
    "txt": "The station at Lantern Bay opened in 1911.\n",
    "text": "The station at Gull Rock opened in 1923.\n",
    "log": "2026-03-01 04:00:07 WARN gauge 3 silent for 12 minutes\n",
    "adoc": "= Tide stations\n\nThe station at Lantern Bay opened in 1911.\n",
    "org": "* Tide stations\nThe station at Lantern Bay opened in 1911.\n",
    "yaml": "station:\n  name: Lantern Bay\n  opened: 1911\n",
    "yml": "station:\n  name: Gull Rock\n  opened: 1923\n",
    "toml": '[station]\nname = "Lantern Bay"\nopened = 1911\n',
    "ini": "[station]\nname = Lantern Bay\nopened = 1911\n",
    "cfg": "[station]\nname = Gull Rock\nopened = 1923\n",
    "conf": "station lantern-bay { opened 1911; }\n",
    "srt": "1\n00:00:01,000 --> 00:00:04,000\nThe station opened in 1911.\n",
    "vtt": "WEBVTT\n\n00:01.000 --> 00:04.000\nThe station opened in 1923.\n",
}


def note(suffix: str, by: str, fact: str, heading: str = "", page: int = 0) -> Path:
    """Enter a file into the table of facts; where it shall be written."""
    name = f"sample.{suffix}"
    FACTS[f".{suffix}"] = {"file": name, "written_by": by, "fact": fact, "heading": heading, "page": page}
    return HERE / name


def pandoc(source: str, target: Path, *options: str) -> None:
    subprocess.run(
        ["pandoc", "-f", "markdown", "--standalone", *options, "-o", target],
        input=source.encode(),
        check=True,
    )


def office(source: Path, kind: str, target: Path) -> None:
    """Open in LibreOffice and save as `kind` (suffix, or suffix:filter)."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            ["soffice", "--headless", "--convert-to", kind, "--outdir", folder, source],
            check=True, capture_output=True,
        )  # fmt: skip
        (made,) = Path(folder).iterdir()
        target.write_bytes(made.read_bytes())


def workbook(path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Readings"
    sheet.append(["Station", None, "Day", "Height", "Share"])
    for name, day, height, share in (("Lantern Bay", 1, 2.4142, 0.972), ("Gull Rock", 2, 1.98, 0.5)):
        sheet.append([name, None, f"2026-03-0{day}", height, share])
        sheet.cell(sheet.max_row, 4).number_format = "0.00"
        sheet.cell(sheet.max_row, 5).number_format = "0.0%"
    other = book.create_sheet("Costs")
    other.append(["Part", "Price"])
    other.append(["radar gauge", 7350])
    other.cell(2, 2).number_format = "#,##0"
    hidden = book.create_sheet("Old")
    hidden.append(["rusty", "gauge"])
    hidden.sheet_state = "hidden"
    book.save(path)


def pictures() -> None:
    """A line of print in every kind of picture; the TIFF called .tiff has it on its second page."""
    line = "The station at Lantern Bay opened in 1911."
    font = ImageFont.load_default(size=36)
    picture = Image.new("1", (840, 120), 1)
    ImageDraw.Draw(picture).text((30, 35), line, font=font, fill=0)
    for suffix in ("png", "jpg", "jpeg", "tif", "webp", "bmp"):
        (picture if suffix in ("png", "tif", "bmp") else picture.convert("L")).save(
            note(suffix, "Pillow", line, page=1)
        )
    blank = Image.new("1", picture.size, 1)
    blank.save(note("tiff", "Pillow", line, page=2), save_all=True, append_images=[picture])


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        writer = Path(folder, "writer.odt")
        pandoc(TEXT, writer)
        slides = Path(folder, "slides.pptx")
        pandoc(SLIDES, slides)
        book = Path(folder, "book.xlsx")
        workbook(book)
        opened, cost = "The station at Lantern Bay opened in 1911.", "The radar gauge cost 7,350 crowns."
        row = "| Lantern Bay | 2026-03-01 | 2.41 | 97.2% |"
        for suffix in ("pdf", "docx", "odt", "rtf"):
            kind = {"docx": "docx:MS Word 2007 XML"}.get(suffix, suffix)
            heading = "" if suffix == "rtf" else "Harbour"
            office(writer, kind, note(suffix, "LibreOffice", opened, heading, int(suffix == "pdf")))
        pandoc(SLIDES, note("pptx", "pandoc", cost, "What it costs", 3))
        office(slides, "odp", note("odp", "LibreOffice", cost, "What it costs", 3))
        office(book, "xlsx", note("xlsx", "LibreOffice", row, "Readings"))
        office(book, "xlsm:Calc MS Excel 2007 VBA XML", note("xlsm", "LibreOffice", row, "Readings"))
        office(book, "ods", note("ods", "LibreOffice", row, "Readings"))
        office(book, "csv", note("csv", "LibreOffice", row.replace("2.41", "2.4142")))
        pandoc(TEXT, note("epub", "pandoc", opened, "Harbour"))
        for suffix, to in (("html", "html5"), ("xhtml", "html4")):
            pandoc(TEXT, note(suffix, "pandoc", opened, "Harbour"), "-t", to)
        office(writer, "html", note("htm", "LibreOffice", opened, "Harbour"))
        for suffix, to in (
            ("md", "gfm"),
            ("markdown", "markdown"),
            ("mdown", "commonmark"),
            ("mkd", "commonmark_x"),
        ):
            pandoc(TEXT, note(suffix, "pandoc", "6 minutes", "Instruments"), "-t", to)
        for suffix in ("rst", "rest"):
            pandoc(TEXT, note(suffix, "pandoc", "6 minutes", "Instruments"), "-t", "rst")
        for suffix in ("tex", "latex"):
            pandoc(TEXT, note(suffix, "pandoc", "6 minutes", "Instruments"), "-t", "latex")

    note("tsv", "Python's csv", "| Gull Rock | 1.98 |").write_text(
        "Station\tHeight\nLantern Bay\t2.41\nGull Rock\t1.98\n"
    )
    records = [{"station": "Lantern Bay", "height": 2.41}, {"station": "潮位站", "height": 17}]
    note("json", "Python's json", "潮位站", "stations").write_text(
        json.dumps({"stations": records, "unit": "m"})
    )
    for suffix in ("jsonl", "ndjson"):
        lines = "".join(json.dumps(record) + "\n" for record in records)
        note(suffix, "Python's json", "| 潮位站 | 17 |").write_text(lines)
    letter = EmailMessage()
    letter["Subject"], letter["From"], letter["To"] = (
        "The gauge of Gull Rock",
        "ada@example.org",
        "ben@example.org",
    )
    letter["Date"] = "Sun, 01 Mar 2026 04:00:07 +0000"
    letter.set_content("It was silent for 12 minutes.\n")
    letter.add_attachment(
        b"part,price\nspring,3\nfloat,19\n", maintype="text", subtype="csv", filename="parts.csv"
    )
    note("eml", "Python's email", "| float | 19 |", "parts.csv").write_bytes(bytes(letter))
    path = note("mbox", "Python's mailbox", "It was silent for 12 minutes.", "The gauge of Gull Rock")
    path.unlink(missing_ok=True)
    box = mailbox.mbox(path)
    other = EmailMessage()
    other["Subject"], other["From"] = "Lantern Bay", "ben@example.org"
    other.set_content("From here on all is well.\n")
    box.add(other)
    box.add(letter)
    box.close()
    with zipfile.ZipFile(
        note("zip", "Python's zipfile", "6 minutes", "Instruments"), "w", zipfile.ZIP_DEFLATED
    ) as archive:
        archive.write(HERE / "sample.md", "notes/sample.md")
        archive.write(HERE / "sample.ods", "sample.ods")
        archive.writestr("picture.xyz", b"\0\1")
    pictures()
    for number, (suffix, code) in enumerate(CODE.items(), 41):
        place = NAMES.get(suffix, "tide")
        note(suffix, "a text editor", str(number), place).write_text(code)
    for suffix, text in PLAIN.items():
        fact = "12 minutes" if suffix == "log" else "1911" if "1911" in text else "1923"
        note(suffix, "a text editor", fact).write_text(text)
    (HERE / "facts.json").write_text(
        json.dumps(dict(sorted(FACTS.items())), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
