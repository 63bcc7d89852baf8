"""Fetching against a server on the loopback address: retries, politeness, refusals, bounds."""

import http.server
import ssl
import threading
import time
import urllib.parse
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from sensorium.core.errors import UsageError
from sensorium.data.ingest.sources import Blob, Failure, Item, tabular
from sensorium.data.ingest.sources import http as fetching
from sensorium.data.ingest.sources.http import Bounds, Refusal, get, is_public, refusing_directive
from sensorium.data.ingest.sources.urls import Fetcher, Politeness

LOCAL = Bounds(max_bytes=10_007, timeout_s=60.0, allow_private=True)
QUICK = Politeness(delay_s=0.0, backoff_s=0.01, timeout_s=60.0, allow_private=True)


class Site(http.server.BaseHTTPRequestHandler):
    """Answers by path, and remembers who came when."""

    protocol_version = "HTTP/1.1"
    visits: dict[str, list[float]]
    agents: set[str]
    now: int
    most: int
    lock: threading.Lock

    def do_GET(self) -> None:
        cls = type(self)
        with cls.lock:
            cls.visits[self.path].append(time.monotonic())
            cls.agents.add(self.headers["User-Agent"])
            cls.now += 1
            cls.most = max(cls.most, cls.now)
        try:
            self.answer(self.path.partition("?")[0], len(cls.visits[self.path]))
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            with cls.lock:
                cls.now -= 1

    def answer(self, path: str, visit: int) -> None:
        if path.startswith("/good"):
            time.sleep(0.01)
            self.reply(200, path.encode())
        elif path == "/flaky":
            self.reply(*((200, b"at last") if visit == 3 else (503, b"")))
        elif path == "/later":
            self.reply(*((200, b"waited") if visit == 2 else (429, b"")), **{"Retry-After": "0.3"[:1]})
        elif path == "/never":
            self.reply(503, b"", **{"Retry-After": "3600"})
        elif path.startswith("/robots/"):
            self.reply(200, b"secret", **{"X-Robots-Tag": path.removeprefix("/robots/").replace("_", ": ")})
        elif path.startswith("/hop/"):
            left = int(path.removeprefix("/hop/"))
            self.reply(302, b"", Location=f"/hop/{left - 1}" if left else "/good")
        elif path == "/away":
            self.reply(302, b"", Location="file:///etc/passwd")
        elif path.startswith("/to/"):
            self.reply(302, b"", Location=urllib.parse.unquote(path[4:], "latin-1"))
        elif path == "/big":
            self.reply(200, b"x" * 20_000)
        elif path == "/packed":
            self.reply(200, b"x", **{"Content-Encoding": "gzip"})
        elif path in ("/endless", "/drip", "/cut"):
            self.stream(path)
        else:
            self.reply(404, b"no")

    def reply(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self, path: str) -> None:
        self.close_connection = True
        if path == "/drip":
            for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"z" * 100:
                self.wfile.write(bytes([byte]))
                time.sleep(0.05)
            return
        self.send_response(200)
        if path == "/cut":
            self.send_header("Content-Length", "100")
        self.end_headers()
        for _ in range(40 if path == "/endless" else 1):
            self.wfile.write(b"y" * 50 if path == "/cut" else b"y" * 1000)

    def log_message(self, *parts: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[str]:
    Site.visits, Site.agents, Site.now, Site.most, Site.lock = (
        defaultdict(list),
        set(),
        0,
        0,
        threading.Lock(),
    )
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def item(url: str) -> Item:
    return Item(url, (Blob(url, url=url),), (("", "a caption"),))


def reason(url: str, bounds: Bounds = LOCAL) -> str:
    with pytest.raises(Refusal) as caught:
        get(url, bounds)
    return str(caught.value)


def test_bytes_come_through_redirects_and_odd_paths(site: str) -> None:
    assert get(f"{site}/good/gänse und hühner?q=ä b", LOCAL).startswith(b"/good/g%C3%A4nse%20und")
    assert get(f"{site}/hop/4", LOCAL) == b"/good"
    assert "more than 5 redirects" in reason(f"{site}/hop/5")
    assert Site.agents == {"sensorium/0.1.0"}


def test_private_addresses_are_refused_whatever_they_are_called(site: str) -> None:
    port = site.rpartition(":")[2]
    closed = Bounds(timeout_s=5.0)
    for host in (
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f.1",
        "127.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
    ):
        assert "not a public address" in reason(f"http://{host}:{port}/good", closed), host
    assert not Site.visits


def test_a_redirect_into_a_private_network_is_refused(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first host passes as public, the one it redirects to does not."""
    monkeypatch.setattr(fetching, "is_public", lambda address: address == "127.0.0.1")
    monkeypatch.setattr(
        Site, "answer", lambda self, path, visit: self.reply(302, b"", Location="http://127.0.0.2/")
    )
    assert "127.0.0.2, not a public address" in reason(f"{site}/x", Bounds(timeout_s=5.0))


def test_the_connection_goes_to_the_address_that_was_checked(
    site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that resolves differently the second time is resolved once only."""
    answers = iter([[(2, 1, 6, "", ("127.0.0.1", int(site.rpartition(":")[2])))]])
    monkeypatch.setattr(fetching.socket, "getaddrinfo", lambda *args, **options: next(answers))
    connect = fetching.socket.create_connection
    seen: list[object] = []

    def pinned(address: tuple[str, int], timeout: float) -> object:
        seen.append(address[0])
        raw = fetching.socket.socket()
        raw.settimeout(timeout)
        raw.connect(address)
        return raw

    monkeypatch.setattr(fetching.socket, "create_connection", pinned)
    assert connect is not pinned
    assert get(f"http://rebind.example:{site.rpartition(':')[2]}/good", LOCAL) == b"/good"
    assert seen == ["127.0.0.1"]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("10.1.2.3", False),
        ("100.64.0.1", False),
        ("192.168.0.1", False),
        ("172.16.0.1", False),
        ("169.254.169.254", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fc00::1", False),
        ("ff02::1", False),
        ("::ffff:192.168.0.1", False),
        ("64:ff9b::a00:1", False),
        ("64:ff9b::5db8:d822", True),
        ("2002:7f00:1::", False),
        ("::7f00:1", False),
    ],
)
def test_public_addresses(address: str, expected: bool) -> None:
    assert is_public(address) is expected


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org/a",
        "file:///etc/passwd",
        "http://",
        "http://u:p@example.org/",
        "http://a:99999/",
        "x",
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    assert "URL" in reason(url)


def test_servers_that_ask_not_to_are_heard(site: str) -> None:
    for directive in (
        "noai",
        "NoImageAI",
        "noindex",
        "noimageindex",
        "none",
        "sensorium_noai",
        "nofollow, noai",
    ):
        assert "X-Robots-Tag" in reason(f"{site}/robots/{directive.replace(' ', '')}"), directive
    for directive in ("nofollow", "googlebot_noai", "all"):
        assert get(f"{site}/robots/{directive}", LOCAL) == b"secret"


def test_directives_for_others_do_not_count() -> None:
    assert (
        refusing_directive(["otherbot: noindex, noai", "unavailable_after: 25 Jun 2030 15:00:00 PST"]) is None
    )
    assert refusing_directive(["otherbot: nofollow, sensorium: noai"]) == "noai"
    assert refusing_directive(["max-snippet: 20, noimageai"]) == "noimageai"
    assert refusing_directive([]) is None


def test_bounds_hold(site: str) -> None:
    assert "20,000 bytes, more than the limit of 10,007" in reason(f"{site}/big")
    assert "more bytes than the limit" in reason(f"{site}/endless")
    assert "content encoding gzip" in reason(f"{site}/packed")
    assert "connection failed" in reason(f"{site}/away") or "URL" in reason(f"{site}/away")
    assert "HTTP status 404" in reason(f"{site}/none")
    assert "ended after" in reason(f"{site}/cut") or "connection failed" in reason(f"{site}/cut")
    assert "longer than 0.4 s" in reason(f"{site}/drip", Bounds(timeout_s=0.4, allow_private=True))


def test_what_may_pass_is_tried_again_and_the_rest_is_not(site: str) -> None:
    urls = ["/flaky", "/none", "/never", "/robots/noai", "/good/1"]
    found = list(Fetcher(QUICK, 10_007).fetch(item(site + url) for url in urls))
    rows = {entry.uri.removeprefix(site): entry.blobs[0].data for entry in found if isinstance(entry, Item)}
    assert rows == {"/flaky": b"at last", "/good/1": b"/good/1"}
    assert sorted(e.uri.removeprefix(site) for e in found if isinstance(e, Failure)) == [
        "/never",
        "/none",
        "/robots/noai",
    ]
    assert {path: len(times) for path, times in Site.visits.items()} == {
        "/flaky": 3, "/none": 1, "/never": 1, "/robots/noai": 1, "/good/1": 1,
    }  # fmt: skip


def test_servers_are_left_alone_between_requests_and_when_they_ask(site: str) -> None:
    polite = Politeness(num_connections=8, per_host=2, delay_s=0.03, backoff_s=0.2, allow_private=True)
    found = list(Fetcher(polite, 10_007).fetch(item(f"{site}/good/{n}") for n in range(11)))
    assert sorted(entry.uri for entry in found) == sorted(f"{site}/good/{n}" for n in range(11))
    starts = sorted(time for times in Site.visits.values() for time in times)
    assert Site.most <= 2
    assert starts[-1] - starts[0] >= 0.03 * 9
    list(Fetcher(polite, 10_007).fetch([item(f"{site}/later")]))
    first, second = Site.visits["/later"]
    assert second - first >= 0.19


def test_stream_order_and_memory_are_bounded(site: str) -> None:
    """Of an endless list only a window is read ahead; rows without URLs pass at once."""
    taken = 0

    def endless() -> Iterator[Item]:
        nonlocal taken
        while True:
            taken += 1
            yield item(f"{site}/good/{taken}")

    stream = Fetcher(Politeness(num_connections=2, per_host=2, delay_s=0.0, allow_private=True), 99).fetch(
        endless()
    )
    next(stream)
    stream.close()
    assert taken < 50
    words = Item("words", texts=(("", "x"),))
    assert list(Fetcher(QUICK, 99).fetch([words, Failure("a", "b", "c")])) == [words, Failure("a", "b", "c")]


def test_a_table_of_urls_is_fetched(site: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"url,caption\n{site}/good/1,one\n{site}/none,two\n")
    found = {type(entry): entry for entry in Fetcher(QUICK, 1 << 28).fetch(tabular.items(tmp_path / "t.csv"))}
    assert found[Item].blobs[0].data == b"/good/1"
    assert found[Item].texts == (("", "one"),)
    assert found[Failure].reason == "HTTP status 404"


def test_the_name_of_the_url_is_checked_in_tls(site: str) -> None:
    """A plain server does not speak TLS: the attempt fails as a connection, it does not fall back."""
    assert "connection failed" in reason(site.replace("http:", "https:") + "/good")
    assert ssl.create_default_context().check_hostname


def test_politeness_is_checked() -> None:
    with pytest.raises(UsageError, match="positive"):
        Politeness(per_host=0)


@pytest.mark.parametrize(
    "location",
    [
        "http://[::1", "http://[x]/", "//[", "http://a:b/", "http://\x00/", "ftp://x/y", "javascript:1",
        "http://" + "a" * 300, "x" * 9000, "http://..",
    ],
)  # fmt: skip
def test_a_malformed_redirect_costs_its_row_only(site: str, location: str) -> None:
    urls = [f"{site}/good/1", f"{site}/to/{urllib.parse.quote(location, safe='')}", f"{site}/good/2"]
    found = list(Fetcher(QUICK, 10_007).fetch(item(url) for url in urls))
    assert sorted(e.uri for e in found if isinstance(e, Item)) == [urls[0], urls[2]]
    (failure,) = (e for e in found if isinstance(e, Failure))
    assert failure.reason
    assert "\n" not in failure.reason


def test_bytes_of_a_redirect_are_meant_as_they_are(site: str) -> None:
    assert get(f"{site}/to/{urllib.parse.quote('/good/dé'.encode())}", LOCAL) == b"/good/d%C3%A9"


@pytest.mark.parametrize(
    "url",
    ["http://\ud800/", "http://x/\ud800", "http://[::1", "", "data:,x", "s3://a/b", "http://" + "é" * 70],
)
def test_an_odd_address_costs_its_row_only(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        fetching.socket, "getaddrinfo", lambda *args, **options: [(2, 1, 6, "", ("127.0.0.1", 9))]
    )
    words = Item("words", texts=(("", "x"),))
    found = list(
        Fetcher(Politeness(num_retries=0, timeout_s=2.0, allow_private=True), 99).fetch([item(url), words])
    )
    assert words in found
    assert [type(e) for e in found if e != words] == [Failure]


def test_whatever_fetching_raises_costs_its_row_only(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def odd(url: str, bounds: Bounds) -> bytes:
        if url.endswith("bad"):
            raise KeyError("odd")
        return b"x"

    monkeypatch.setattr(fetching, "get", odd)
    found = list(Fetcher(QUICK, 99).fetch([item(f"{site}/bad"), item(f"{site}/ok")]))
    assert sorted(type(entry).__name__ for entry in found) == ["Failure", "Item"]
