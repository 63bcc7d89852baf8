"""HTTP GET of an untrusted URL, with limits on size, time and redirects and without private addresses.

Output: the bytes, or a `Refusal` that says whether a retry may help. The host is resolved once and the
connection uses the checked address, which prevents DNS rebinding; each redirect is checked again. Proxies of
the environment are not used. `X-Robots-Tag` is honoured as in img2dataset (`noai`, `noimageai`, `noindex`,
`noimageindex`, and `none`, which implies `noindex`).
"""

from __future__ import annotations

import email.utils
import http.client
import ipaddress
import socket
import ssl
import string
import threading
import time
import urllib.parse
from collections.abc import Iterable
from dataclasses import dataclass

from sensorium import __version__

AGENT = "sensorium"
REFUSING_DIRECTIVES = frozenset({"noai", "noimageai", "noindex", "noimageindex", "none"})
TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
REDIRECTS = frozenset({301, 302, 303, 307, 308})

_CHUNK_BYTES = 64 * 1024
_SAFE_IN_PATH = "/%:=&?~#+!$,;'@()*[]"


class Refusal(Exception):
    """A download that failed or is not allowed.

    Attributes:
        is_transient: Whether a retry may help.
        retry_after_s: `Retry-After` of the server, or None.
    """

    def __init__(
        self, reason: str, *, is_transient: bool = False, retry_after_s: float | None = None
    ) -> None:
        super().__init__(reason)
        self.is_transient = is_transient
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class Bounds:
    """Limits of one download.

    Attributes:
        max_bytes: Largest size of the body.
        timeout_s: Time limit from the first connection to the last byte, redirects included.
        max_redirects: Largest number of redirects.
        allow_private: Whether addresses that are not public are allowed.
    """

    max_bytes: int = 256 * 1024 * 1024
    timeout_s: float = 30.0
    max_redirects: int = 5
    allow_private: bool = False


def get(url: str, bounds: Bounds) -> bytes:
    """Download `url`.

    Raises:
        Refusal: If that fails or is not allowed.
    """
    deadline = time.monotonic() + bounds.timeout_s
    for _ in range(bounds.max_redirects + 1):
        answer = _get_once(url, bounds, deadline)
        if isinstance(answer, bytes):
            return answer
        url = _redirected(url, answer)
    raise Refusal(f"more than {bounds.max_redirects} redirects")


def _redirected(url: str, location: str) -> str:
    """Target of a redirect; non-ASCII bytes of the header are percent-encoded."""
    try:
        target = urllib.parse.quote(location, safe=string.printable, encoding="latin-1")
        return urllib.parse.urljoin(url, target)
    except ValueError as error:
        raise Refusal(f"redirect to an invalid URL: {location[:200]!r}: {error}") from error


def is_public(address: str) -> bool:
    """Whether an IP address is public, also if it is IPv4 embedded in IPv6.

    Example:
        >>> [is_public(address) for address in ("93.184.216.34", "127.0.0.1", "::ffff:10.0.0.1", "fe80::1")]
        [True, False, False, False]
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        wrapped = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
        if ip in ipaddress.ip_network("64:ff9b::/96") or ip in ipaddress.ip_network("::/96"):
            wrapped.append(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))
        inner = [other for other in wrapped if other is not None]
        if inner:
            return all(is_public(str(other)) for other in inner)
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def refusing_directive(tags: Iterable[str], agent: str = AGENT) -> str | None:
    """Return the directive of `X-Robots-Tag` headers that forbids this use, or None.

    A directive after `name:` is only for that robot.

    Example:
        >>> refusing_directive(["googlebot: noai, nofollow"]), refusing_directive(["nofollow, noimageai"])
        (None, 'noimageai')
    """
    for tag in tags:
        addressee = ""
        for part in tag.lower().split(","):
            name, colon, rest = part.partition(":")
            if colon and name.strip() not in (
                "unavailable_after",
                "max-snippet",
                "max-image-preview",
                "max-video-preview",
            ):
                addressee, part = name.strip(), rest
            if addressee in ("", "*", agent) and part.strip() in REFUSING_DIRECTIVES:
                return part.strip()
    return None


def _get_once(url: str, bounds: Bounds, deadline: float) -> bytes | str:
    """The body, or the target of a redirect."""
    parts = _split(url)
    host = parts.hostname or ""
    address = _resolve(host, _port(parts), bounds.allow_private)
    connection = _connect(parts, address, deadline)
    watchdog = threading.Timer(max(deadline - time.monotonic(), 0.01), _cut, [connection])
    watchdog.daemon = True
    watchdog.start()
    try:
        connection.request(
            "GET",
            _target(parts),
            headers={"User-Agent": f"{AGENT}/{__version__}", "Accept-Encoding": "identity", "Accept": "*/*"},
        )
        with connection.getresponse() as response:
            return _read(response, bounds, deadline)
    except (http.client.InvalidURL, UnicodeError) as error:
        raise Refusal(f"not a URL: {error}") from error
    except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
        if time.monotonic() >= deadline:
            raise Refusal(f"took longer than {bounds.timeout_s:g} s", is_transient=True) from error
        reason = str(error) or type(error).__name__
        raise Refusal(
            f"connection failed: {reason}", is_transient=not isinstance(error, ssl.SSLCertVerificationError)
        ) from error
    finally:
        watchdog.cancel()
        connection.close()


def _split(url: str) -> urllib.parse.SplitResult:
    try:
        parts = urllib.parse.urlsplit(url.strip())
        _port(parts)
    except ValueError as error:
        raise Refusal(f"not a URL: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Refusal("not an http or https URL with a host")
    if parts.username is not None or parts.password is not None:
        raise Refusal("the URL has a user name or password")
    return parts


def _port(parts: urllib.parse.SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _target(parts: urllib.parse.SplitResult) -> str:
    path = urllib.parse.quote(parts.path or "/", safe=_SAFE_IN_PATH)
    return f"{path}?{urllib.parse.quote(parts.query, safe=_SAFE_IN_PATH)}" if parts.query else path


def _resolve(host: str, port: int, allow_private: bool) -> tuple[str, int]:
    """The first address of the host; all of its addresses must be public."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Refusal(f"cannot resolve {host}: {error}", is_transient=isinstance(error, OSError)) from error
    addresses = [str(entry[4][0]) for entry in found]
    private = [address for address in addresses if not is_public(address)]
    if private and not allow_private:
        raise Refusal(f"{host} is {private[0]}, not a public address; --allow-private permits it")
    return addresses[0], port


def _connect(
    parts: urllib.parse.SplitResult, address: tuple[str, int], deadline: float
) -> http.client.HTTPConnection:
    """Connect to `address`, with the URL's host for the certificate check and the `Host` header."""
    remaining = max(deadline - time.monotonic(), 0.01)
    host, port = parts.hostname or "", _port(parts)
    connection = http.client.HTTPConnection(host, port, timeout=remaining)
    raw: socket.socket | None = None
    try:
        raw = socket.create_connection(address, timeout=min(remaining, 10.0))
        if parts.scheme == "https":
            raw = ssl.create_default_context().wrap_socket(raw, server_hostname=host)
    except OSError as error:
        if raw is not None:
            raw.close()
        is_final = isinstance(error, ssl.SSLCertVerificationError)
        raise Refusal(f"connection failed: {error}", is_transient=not is_final) from error
    connection.sock = raw
    return connection


def _read(response: http.client.HTTPResponse, bounds: Bounds, deadline: float) -> bytes | str:
    directive = refusing_directive(response.headers.get_all("X-Robots-Tag") or [])
    if directive is not None:
        raise Refusal(f"the server forbids it: X-Robots-Tag: {directive}")
    location = response.headers.get("Location")
    if response.status in REDIRECTS and location:
        return location
    if response.status != 200:
        wait = _retry_after(response.headers.get("Retry-After"))
        is_transient = response.status in TRANSIENT_STATUS
        raise Refusal(f"HTTP status {response.status}", is_transient=is_transient, retry_after_s=wait)
    if response.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
        raise Refusal(f"content encoding {response.headers['Content-Encoding']} was not requested")
    if response.length is not None and response.length > bounds.max_bytes:
        raise Refusal(f"{response.length:,} bytes, more than the limit of {bounds.max_bytes:,}")
    expected, body = response.length, bytearray()
    while chunk := response.read1(_CHUNK_BYTES):
        body += chunk
        if len(body) > bounds.max_bytes:
            raise Refusal(f"more bytes than the limit of {bounds.max_bytes:,}")
        if time.monotonic() >= deadline:
            raise Refusal(f"took longer than {bounds.timeout_s:g} s", is_transient=True)
    if expected is not None and len(body) < expected:
        raise Refusal(f"ended after {len(body):,} of {expected:,} bytes", is_transient=True)
    return bytes(body)


def _retry_after(value: str | None) -> float | None:
    """Seconds of a `Retry-After` header, which is a number or a date."""
    if value is None:
        return None
    try:
        if value.strip().isdigit():
            return float(value)
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def _cut(connection: http.client.HTTPConnection) -> None:
    """Shut the connection down at the deadline, also if the server still sends single bytes."""
    try:
        if connection.sock is not None:
            connection.sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
