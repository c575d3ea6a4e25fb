"""One web page, fetched with care: the only module of this wing that opens a network connection.

A URL may come from a stranger, and so may every redirect. Each address is checked when it is resolved, and
the connection goes to the very address that was checked, so that a name cannot point elsewhere a moment later
(DNS rebinding). Without `private`, only addresses of the public Internet are let through: not loopback, local
networks, link-local ones (where clouds keep their credentials), nor the same in other clothes (IPv4 in IPv6,
NAT64, 6to4, Teredo). Nothing is sent but the request: no cookies, no credentials, no proxy.

Bytes, time and redirects are limited; the deadline cuts the connection, however slowly it drips.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Self
from urllib.parse import SplitResult, quote, urljoin, urlsplit, urlunsplit

from ingest.errors import IngestError
from ingest.parse.formats import FORMATS, by_suffix

MOST_REDIRECTS = 5
LONGEST_URL = 2000
_PIECE = 1 << 16
_REDIRECTS = {301, 302, 303, 307, 308}
#: Types that say nothing; the name in the URL does then.
_GENERIC = {"", "application/octet-stream", "binary/octet-stream", "text/plain", "application/x-download"}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_HEADERS = {
    "User-Agent": "lorebase",
    "Accept": "text/html, application/xhtml+xml, application/pdf, text/plain, */*;q=0.5",
    "Accept-Encoding": "identity",
    "Connection": "close",
}
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class FetchError(IngestError):
    """A page that cannot be had; the message says why."""


class ForbiddenUrl(FetchError):
    """A URL that is not fetched: another scheme, credentials in it, or an address that is not public."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one page may cost, and where it may lie."""

    max_bytes: int
    timeout_s: float
    private: bool = False  #: also loopback and local networks


@dataclass(frozen=True, slots=True)
class Page:
    """What came."""

    url: str  #: where it was in the end, after redirects
    name: str  #: a file name whose suffix says what it is
    size: int


def is_url(text: str) -> bool:
    """Whether this names a web page and no file."""
    return text.lower().startswith(("http://", "https://"))


def normal(url: str) -> str:
    """The URL as a page is known by: plain characters, no fragment.

    Raises:
        ForbiddenUrl: no http or https URL, or one with credentials.
    """
    return urlunsplit(_split(url))


def _split(url: str) -> SplitResult:
    shown = repr(url[:100])
    if len(url) > LONGEST_URL or any(c.isspace() or not c.isprintable() for c in url):
        raise ForbiddenUrl(f"{shown} is no URL: it is too long, or has spaces or control characters in it.")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        if host and not host.isascii():
            host = host.encode("idna").decode()
    except (ValueError, UnicodeError) as error:
        raise ForbiddenUrl(f"{shown} is no URL: {error}.") from error
    if parts.scheme not in ("http", "https"):
        raise ForbiddenUrl(f"{shown}: only http and https are fetched.")
    if not host or "\\" in parts.netloc:
        raise ForbiddenUrl(f"{shown} names no host.")
    if "@" in parts.netloc:
        raise ForbiddenUrl(f"{shown} has credentials in it; they are never sent.")
    place = f"[{host}]" if ":" in host else host
    if port is not None and port != {"http": 80, "https": 443}[parts.scheme]:
        place += f":{port}"
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=-._~")
    return SplitResult(parts.scheme, place, path, quote(parts.query, safe="/%:@!$&'()*+,;=-._~?"), "")


def fetch(url: str, target: Path, limits: Limits) -> Page:
    """Fetch a page into `target`.

    Raises:
        ForbiddenUrl: the URL, or one that it leads to, is not fetched.
        FetchError: unreachable, refused, too large, too slow, or of a kind that no parser reads.
    """
    with _Deadline(limits.timeout_s) as deadline:
        try:
            page = _follow(url, target, limits, deadline)
        except (OSError, http.client.HTTPException, zlib.error, FetchError) as error:
            if deadline.passed:
                raise FetchError(f"{url}: did not come within {limits.timeout_s:g} s.") from error
            if isinstance(error, FetchError):
                raise
            raise FetchError(f"{url}: cannot be fetched: {error or type(error).__name__}.") from error
        if deadline.passed:  # what came may have been cut off
            raise FetchError(f"{url}: did not come within {limits.timeout_s:g} s.")
        return page


class _Deadline:
    """Cuts every connection of one fetch when its time is over, and closes them at its end."""

    def __init__(self, timeout_s: float) -> None:
        self.passed = False
        self._opened: list[socket.socket] = []
        self._lock = threading.Lock()
        self._timer = threading.Timer(timeout_s, self._cut)
        self._timer.daemon = True

    def add(self, connected: socket.socket) -> None:
        with self._lock:
            self._opened.append(connected)
            if self.passed:
                raise TimeoutError

    def _cut(self) -> None:
        with self._lock:
            self.passed = True
            for connected in self._opened:
                with contextlib.suppress(OSError):
                    connected.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        for connected in self._opened:
            connected.close()


def _follow(url: str, target: Path, limits: Limits, deadline: _Deadline) -> Page:
    at = _split(url)
    for _ in range(MOST_REDIRECTS + 1):
        connection = _connect(at, limits, deadline)
        try:
            path = at.path + (f"?{at.query}" if at.query else "")
            connection.request("GET", path, headers=_HEADERS | {"Host": at.netloc})
            response = connection.getresponse()
            if response.status in _REDIRECTS:
                if not (location := response.getheader("Location")):
                    raise FetchError(f"{url}: leads elsewhere without saying where.")
                at = _split(urljoin(urlunsplit(at), location))
                continue
            if response.status != 200:
                raise FetchError(f"{url}: the server answered {response.status} {response.reason}.")
            name = _name(url, at, response.getheader("Content-Type", ""))
            size = _save(url, response, target, limits.max_bytes)
            return Page(urlunsplit(at), name, size)
        finally:
            connection.close()
    raise FetchError(f"{url}: leads on and on; more than {MOST_REDIRECTS} redirects are not followed.")


def _connect(at: SplitResult, limits: Limits, deadline: _Deadline) -> http.client.HTTPConnection:
    """A connection to an address that was checked."""
    assert at.hostname is not None
    port = at.port or {"http": 80, "https": 443}[at.scheme]
    connected = _reach(addresses(at.hostname, port, private=limits.private), port, limits.timeout_s)
    deadline.add(connected)
    if at.scheme == "https":
        context = ssl.create_default_context()
        connected = context.wrap_socket(connected, server_hostname=at.hostname)
        deadline.add(connected)
    connection = http.client.HTTPConnection(at.hostname, port, timeout=limits.timeout_s)
    connection.sock = connected
    return connection


def addresses(host: str, port: int, *, private: bool) -> list[str]:
    """What a host's name stands for, every address checked.

    Raises:
        FetchError: it stands for nothing.
        ForbiddenUrl: one of the addresses is not public, and `private` is false.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise FetchError(f"There is no host {host[:100]!r}: {error}.") from error
    plain = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for address in plain if not private else ():
        if not is_public(address):
            raise ForbiddenUrl(
                f"{host[:100]!r} is at {address}, which is no address of the public Internet. The setting "
                "url_private lets such pages be fetched."
            )
    return plain


def is_public(address: str) -> bool:
    """Whether an address belongs to the public Internet, whatever it is dressed as."""
    ip: _Address = ipaddress.ip_address(address.partition("%")[0])
    judged: list[_Address] = [ip]
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            judged = [ip.ipv4_mapped]
        elif ip in _NAT64:
            judged = [ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)]
        else:
            judged += [ip.sixtofour] if ip.sixtofour is not None else []
            judged += ip.teredo or ()
    return all(
        a.is_global and not a.is_multicast and not a.is_reserved and not getattr(a, "is_site_local", False)
        for a in judged
    )


def _reach(hosts: list[str], port: int, timeout_s: float) -> socket.socket:
    last: OSError | None = None
    for host in hosts[:4]:
        try:
            return socket.create_connection((host, port), timeout=timeout_s)
        except OSError as error:
            last = error
    raise last or OSError("no address")


def _name(url: str, at: SplitResult, content_type: str) -> str:
    """A file name for what came: its suffix is the content type's, or where that says nothing, the URL's.

    Raises:
        FetchError: nothing that a parser reads.
    """
    kind = content_type.partition(";")[0].strip().lower()
    last = PurePosixPath(at.path)
    declared = by_suffix().get(last.suffix.lower())
    stem = last.stem or at.hostname or "page"
    if declared is not None and (kind in _GENERIC or kind in declared.media_types):
        return f"{stem}{last.suffix.lower()}"
    row = next((row for row in FORMATS if kind in row.media_types), None)
    if row is not None:
        return f"{stem}{row.suffixes[0]}"
    if kind in _GENERIC:
        return stem  # the content decides
    if kind.startswith("text/"):
        return f"{stem}.txt"
    raise FetchError(f"{url}: is {kind[:80]!r}, which no parser reads.")


def _save(url: str, response: http.client.HTTPResponse, target: Path, max_bytes: int) -> int:
    too_large = FetchError(f"{url}: is larger than {max_bytes / 1e6:g} MB (setting url_max_mb).")
    if response.length is not None and response.length > max_bytes:
        raise too_large
    size = 0
    with target.open("wb") as out:
        for piece in _decoded(url, response):
            size += len(piece)
            if size > max_bytes:
                raise too_large
            out.write(piece)
    if response.length:  # bytes that were announced and did not come
        raise FetchError(f"{url}: broke off after {size:,} bytes.")
    return size


def _decoded(url: str, response: http.client.HTTPResponse) -> Iterator[bytes]:
    """The content in pieces; unpacked where the server packed it although it was not asked to."""
    coding = response.getheader("Content-Encoding", "identity").strip().lower()
    if coding not in ("", "identity", "gzip", "x-gzip", "deflate"):
        raise FetchError(f"{url}: comes packed as {coding[:40]!r}, which was not asked for.")
    unpack = None if coding in ("", "identity") else zlib.decompressobj(zlib.MAX_WBITS | 32)
    while piece := response.read1(_PIECE):
        if unpack is None:
            yield piece
            continue
        while piece:
            yield unpack.decompress(piece, _PIECE)
            piece = unpack.unconsumed_tail
    if unpack is not None and not unpack.eof:
        raise FetchError(f"{url}: broke off inside its packing.")
