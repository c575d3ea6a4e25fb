"""Web pages: what is fetched, what is refused, and that nothing is contacted that should not be."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ingest.errors import IngestError
from ingest.fetch import FetchError, ForbiddenUrl, Limits, fetch, is_public, normal
from ingest.filters.text import parse
from ingest.pipeline import Upload, ingest_files
from ingest.pipeline.pages import ingest_pages
from ingest.settings import IngestSettings
from tests.fakes import HashEmbedder
from tests.ingest.making import new_store
from tests.ingest.running import InProcessParsers, counts

HTML = b"<!doctype html><html><head><title>Tortoises</title></head><body><main><h1>Tortoises</h1><p>The tortoise lives in the garden.</p></main></body></html>"
LOCAL = Limits(100_000, 20.0, private=True)


class Site:
    """A server on loopback: bodies by path, and what was asked of it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.pages: dict[
            str, tuple[int, dict[str, str], bytes | Callable[[BaseHTTPRequestHandler], None]]
        ] = {}

    def put(
        self,
        path: str,
        body: bytes | Callable[..., None],
        kind: str = "text/html",
        status: int = 200,
        **headers: str,
    ) -> str:
        self.pages[path] = (
            status,
            {"Content-Type": kind, **{k.replace("_", "-"): v for k, v in headers.items()}},
            body,
        )
        return f"http://{self.address}{path}"


@contextmanager
def serving() -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            site.asked.append((self.path, dict(self.headers)))
            status, headers, body = site.pages.get(self.path, (404, {}, b"no"))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if callable(body):
                self.end_headers()
                body(self)
                return
            if "Content-Length" not in headers:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    site = Site(f"127.0.0.1:{server.server_address[1]}")
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as site:
        yield site


@pytest.mark.parametrize(
    ("path", "kind", "name"),
    [
        ("/guide", "text/html; charset=utf-8", "guide.html"),
        ("/", "text/html", "127.0.0.1.html"),
        ("/a/report.pdf", "application/pdf", "report.pdf"),
        ("/a/report.pdf?x=1", "application/octet-stream", "report.pdf"),
        ("/notes.md", "text/plain", "notes.md"),
        ("/feed.php", "text/html", "feed.html"),
        ("/data", "application/json", "data.json"),
        ("/blob", "", "blob"),
        ("/x", "text/x-unheard-of", "x.txt"),
    ],
)
def test_what_comes_has_a_name_that_says_what_it_is(
    site: Site, tmp_path: Path, path: str, kind: str, name: str
) -> None:
    page = fetch(site.put(path, HTML, kind), tmp_path / "page", LOCAL)
    assert (page.name, page.size) == (name, len(HTML)) and (tmp_path / "page").read_bytes() == HTML
    ((asked, headers),) = site.asked
    assert (
        asked == path
        and headers["Host"] == site.address
        and "Cookie" not in headers
        and "Authorization" not in headers
    )


def test_redirects_are_followed_a_few_steps(site: Site, tmp_path: Path) -> None:
    site.put("/end", HTML)
    for n in range(8):
        site.put(f"/{n}", b"", status=302, Location="/end" if n == 0 else f"{n - 1}")
    assert fetch(f"http://{site.address}/4", tmp_path / "page", LOCAL).url.endswith("/end")
    with pytest.raises(FetchError, match="redirects"):
        fetch(f"http://{site.address}/5", tmp_path / "page", LOCAL)


def test_what_is_packed_is_unpacked_within_the_limit(site: Site, tmp_path: Path) -> None:
    fetch(site.put("/z", gzip.compress(HTML), Content_Encoding="gzip"), tmp_path / "page", LOCAL)
    assert (tmp_path / "page").read_bytes() == HTML
    bomb = gzip.compress(b"\0" * 50_000_000)
    assert len(bomb) < LOCAL.max_bytes
    with pytest.raises(FetchError, match="larger than"):
        fetch(site.put("/bomb", bomb, Content_Encoding="gzip"), tmp_path / "page", LOCAL)
    assert (tmp_path / "page").stat().st_size <= LOCAL.max_bytes
    for broken, coding in ((gzip.compress(HTML)[:-9], "gzip"), (b"nothing", "gzip"), (HTML, "br")):
        with pytest.raises(FetchError):
            fetch(site.put("/b", broken, Content_Encoding=coding), tmp_path / "page", LOCAL)


def drip(handler: BaseHTTPRequestHandler) -> None:
    for _ in range(600):
        handler.wfile.write(b"x")
        time.sleep(0.1)


def endless(handler: BaseHTTPRequestHandler) -> None:
    while True:
        handler.wfile.write(b"x" * 65536)


@pytest.mark.parametrize(
    ("body", "kind", "headers", "why"),
    [
        (b"x" * 200_000, "text/plain", {}, "larger than"),
        (endless, "text/plain", {}, "larger than"),
        (b"x", "video/mp4", {}, "no parser reads"),
        (b"short", "text/plain", {"Content_Length": "50"}, "broke off"),
    ],
)
def test_what_is_not_taken(
    site: Site, tmp_path: Path, body: bytes, kind: str, headers: dict[str, str], why: str
) -> None:
    with pytest.raises(FetchError, match=why):
        fetch(site.put("/x", body, kind, **headers), tmp_path / "page", LOCAL)


def test_a_server_that_drips_is_cut_off(site: Site, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="did not come within"):
        fetch(site.put("/x", drip, "text/plain"), tmp_path / "page", Limits(100_000, 0.5, private=True))


def test_a_server_that_drips_its_headers_is_cut_off(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            try:
                connection.sendall(b"HTTP/1.1 200 OK\r\n")
                while True:
                    connection.sendall(b"X")
                    time.sleep(0.05)
            except OSError:
                pass

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(FetchError, match="did not come within"):
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
            fetch(url, tmp_path / "page", Limits(100_000, 0.5, private=True))


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
        b"HTTP/1.1 302 Found\r\n\r\n",
        b"\0" * 5000,
    ],
)
def test_what_speaks_no_http(tmp_path: Path, answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def speak() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        threading.Thread(target=speak, daemon=True).start()
        with pytest.raises(FetchError):
            fetch(
                f"http://127.0.0.1:{listener.getsockname()[1]}/x.md",
                tmp_path / "page",
                Limits(1000, 5.0, private=True),
            )


# Where nothing may go

PUBLIC_ONLY = Limits(100_000, 20.0)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254",
        "100.64.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "::1",
        "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1",
        "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:a00:1::1",
        "2001:0:7f00:1::", "64:ff9b:1::1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]
)
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "127.1", "[::1]", "[::ffff:127.0.0.1]", "①②⑦.0.0.1"],
)
def test_no_way_of_writing_loopback_is_fetched(site: Site, tmp_path: Path, host: str) -> None:
    port = site.address.rpartition(":")[2]
    with pytest.raises(FetchError):
        fetch(f"http://{host}:{port}/", tmp_path / "page", PUBLIC_ONLY)
    assert site.asked == []


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "ftp://example.org/", "gopher://x/", "http://", "http:///x", "http://user@example.org/",
        "http://user:word@example.org/", "http://example.org:99999/", "http://exa mple.org/", "http://a\r\nX: y/",
        "http://[::1/", "http://example.org\\@127.0.0.1/", "HTTP://" + "x" * 3000, "javascript:alert(1)", "//example.org/",
    ],
)  # fmt: skip
def test_urls_that_are_none(tmp_path: Path, url: str) -> None:
    with pytest.raises(ForbiddenUrl):
        normal(url)
    with pytest.raises(ForbiddenUrl):
        fetch(url, tmp_path / "page", LOCAL)


def test_a_page_is_known_by_one_url() -> None:
    assert normal("HTTP://Example.ORG:80/a b".replace(" ", "%20") + "#part") == "http://example.org/a%20b"
    assert normal("https://例え.jp/パス?q=あ") == "https://xn--r8jz45g.jp/%E3%83%91%E3%82%B9?q=%E3%81%82"
    assert normal("https://example.org:8443") == "https://example.org:8443/"


def resolving(monkeypatch: pytest.MonkeyPatch, answers: dict[str, list[str]]) -> list[str]:
    """Names stand for these addresses, one look-up after the other; returns the names that were looked up."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, *_: object, **__: object) -> list[tuple[object, ...]]:
        asked.append(host)
        found = answers[host]
        address = found.pop(0) if len(found) > 1 else found[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr("ingest.fetch.socket.getaddrinfo", getaddrinfo)
    return asked


def test_a_name_that_changes_its_address_is_not_followed_there(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resolved once, checked, and connected to what was checked: the second address is never asked for."""
    reached: list[str] = []

    def create_connection(place: tuple[str, int], timeout: float) -> socket.socket:
        reached.append(place[0])
        raise OSError("unreachable in a test")

    asked = resolving(monkeypatch, {"rebind.example": ["93.184.216.34", "127.0.0.1"]})
    monkeypatch.setattr("ingest.fetch.socket.create_connection", create_connection)
    with pytest.raises(FetchError, match="unreachable"):
        fetch(f"http://rebind.example:{site.address.rpartition(':')[2]}/", tmp_path / "page", PUBLIC_ONLY)
    assert (asked, reached, site.asked) == (["rebind.example"], ["93.184.216.34"], [])


def test_a_redirect_to_a_private_address_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as outside, serving() as inside:
        resolving(monkeypatch, {"public.example": ["127.0.0.1"], "127.0.0.1": ["127.0.0.1"]})
        monkeypatch.setattr("ingest.fetch.is_public", lambda address: passes.pop())
        for location in (
            f"http://{inside.address}/secret",
            "file:///etc/passwd",
            "http://user:x@public.example/",
        ):
            passes = [False, True]  # the first address is public, the second is not
            port = outside.address.rpartition(":")[2]
            outside.put("/", b"", status=302, Location=location)
            with pytest.raises(ForbiddenUrl):
                fetch(f"http://public.example:{port}/", tmp_path / "page", PUBLIC_ONLY)
        assert len(outside.asked) == 3 and inside.asked == []


def test_an_unknown_host_and_a_closed_port(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="no host"):
        fetch("http://nothing.invalid/", tmp_path / "page", LOCAL)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(FetchError, match="cannot be fetched"):
        fetch(f"http://127.0.0.1:{port}/", tmp_path / "page", LOCAL)


# Into the index


def test_pages_are_documents_known_by_their_url(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.sandbox.ParserPool", InProcessParsers)
    settings = IngestSettings(url_private=True, chunk_tokens=64)  # type: ignore[call-arg]
    url = site.put("/guide?x=1", HTML)
    gone = f"http://{site.address}/gone"
    with new_store(tmp_path) as store:

        def run(*urls: str) -> dict[str, int]:
            return counts(ingest_pages(urls, store, HashEmbedder(), settings, own={"kind": "page"}))

        assert run(url, gone, "ftp://x/") == {"added": 1, "failed": 2}
        (document,) = store.documents(parse("kind = page"))
        assert document.path == url and document.title == "Tortoises" and not document.warnings
        assert run(url + "#part") == {"unchanged": 1}
        site.put("/guide?x=1", HTML.replace(b"garden", b"house"))
        assert run(url) == {"updated": 1} and "house" in store.text(url)
        site.pages.clear()
        assert run(url) == {"failed": 1} and "house" in store.text(url)
        file = tmp_path / "sent"
        file.write_bytes(HTML)
        ingest_files([Upload(file, "guide.html", url=url)], store, HashEmbedder(), settings)
        assert len(store.documents()) == 1 and "garden" in store.text(url)
        with pytest.raises(IngestError):
            ingest_files([Upload(file, "guide.html", url="file:///x")], store, HashEmbedder(), settings)
