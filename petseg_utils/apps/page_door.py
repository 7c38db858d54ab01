"""What a page lets in: requests from its own browser windows, for what the page itself needs, and nothing else.

Other sites that are open in the same browser can send requests to this machine, too, and a domain name that somebody
else owns can be made to point here.
"""

import json
import secrets
import shutil
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.responses import JSONResponse, PlainTextResponse, Response

from petseg_utils.apps.page_folder import QUOTA, own_folder, used
from petseg_utils.apps.page_messages import asked, parsed
from petseg_utils.segmenter import MAX_PIXELS

HOSTS = ("localhost", "127.0.0.1", "[::1]")
API = "/gradio_api"
# What gradio's page requests.  Gradio offers more: proxies, an interface for programs, a dashboard.
PAGES = ("/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt")
READ = ("/assets/", "/static/", "/svelte/", f"{API}/heartbeat/")
ASKED = (f"{API}/queue/data", f"{API}/upload_progress", f"{API}/startup-events")
CLICK, OPEN = f"{API}/run/predict", f"{API}/queue/join"  # answered at once, and in turn; see `page.FAST` and `SLOW`
POSTED = (CLICK, OPEN, f"{API}/cancel", f"{API}/reset")
UPLOAD, FILE = f"{API}/upload", f"{API}/file="
MAX_FILE = 3 * MAX_PIXELS  # bytes of a photo's file: the largest photo without any compression
MAX_FORM = MAX_FILE + 64 * 1024  # with the rest of a form around it
MAX_MESSAGE = 256 * 1024  # bytes of a click, or of anything else sent to the page
LONGEST = 64  # characters of a session's name, and of a visitor's: they are remembered
SPARE = 64 * 1024**2  # bytes that an upload must leave free on the disk
COOKIE = "petseg_visitor"
SESSIONS = 10_000  # as many are remembered, with their owners
# How many may wait at once: for a window, which has seven buttons for slow work, and whose browser has six requests
# in flight; for a browser, which has several windows; and in all, as many as there are visitors whose photos stay open.
OF_WINDOW, OF_VISITOR, OF_ALL = 8, 24, 200
ENOUGH = "You asked for more than this page does at once: wait until it has answered."
BUSY = "This page is busy with other photos. Try again in a few seconds; if it shows none yet, reload it."
# Headers that are ignored: those of proxies, as there are none, and those that ask for parts, as files are sent whole.
UNHEARD = ("x-forwarded-", "forwarded", "x-gradio-server", "range", "if-range")
HEADERS = {
    # Nothing from the network, and nobody may embed the page in theirs.
    "Content-Security-Policy": "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Door:
    """A guard around the served page, which checks every request."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], page: gr.Blocks):
        self.app, self.page = app, page
        self.open: Counter[str] = Counter()  # open windows, by session: each holds a connection
        self._owners: OrderedDict[str, str] = OrderedDict()  # per session, the cookie of whoever used it first
        self._clicks: Counter[str] = Counter()  # clicks that are being answered, by session
        self._coming = 0  # bytes of the uploads in progress

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close"})
        headers, path, method = Headers(scope=scope), scope["path"], scope["method"]
        visitor = _cookie(headers)
        session = ""
        if refusal := _stranger(headers, scope["scheme"], method) or _not_offered(method, path):
            return await refusal(scope, receive, send)
        scope["headers"] = [pair for pair in scope["headers"] if not pair[0].decode("latin-1").startswith(UNHEARD)]
        if method == "POST" and path != UPLOAD:
            body = await _whole(receive, MAX_MESSAGE)
            message = parsed(body or b"")
            if message and not _names_uploads(message.get("data")):
                said = "A photo is an uploaded file: no address and no path of this machine is taken for one."
                return await _refused(said, 400)(scope, receive, send)
            if message and path in (CLICK, OPEN):
                message = asked(self.page, message, path == OPEN)
            if message is None:
                return await _refused("That is no message of this page.", 400)(scope, receive, send)
            session, receive = str(message.get("session_hash") or ""), _again(json.dumps(message).encode(), receive)
        elif path.startswith(f"{API}/heartbeat/"):
            session = path.rpartition("/")[2]
        elif path == f"{API}/queue/data":
            session = QueryParams(scope["query_string"]).get("session_hash", "")  # as gradio reads it: the last one
        if session and not self._owns(visitor, session):
            return await _refused("This window is somebody else's.", 403)(scope, receive, send)
        if path == UPLOAD:
            return await self._take_upload(scope, receive, send, headers)
        if path in (CLICK, OPEN) and (said := self._too_much(visitor, session, path)):
            return await JSONResponse({"detail": said}, 429, HEADERS)(scope, receive, send)  # gradio shows it
        beating = [session] if path.startswith(f"{API}/heartbeat/") else []
        clicking = [session] if path == CLICK else []
        self.open.update(beating)
        self._clicks.update(clicking)
        try:
            await self.app(scope, receive, _with_headers(send, "" if visitor else secrets.token_urlsafe(32)))
        finally:
            self.open.subtract(beating)
            self._clicks.subtract(clicking)
            self.open += Counter()  # drops the zeros
            self._clicks += Counter()

    def _owns(self, visitor: str, session: str) -> bool:
        """Return whether a session is this visitor's; it belongs to whoever uses it first."""
        if len(session) > LONGEST:
            return False
        owner = self._owners.setdefault(session, visitor)
        self._owners.move_to_end(session)
        while len(self._owners) > SESSIONS:
            self._owners.popitem(last=False)
        return secrets.compare_digest(owner.encode(), visitor.encode())

    def _too_much(self, visitor: str, session: str, path: str) -> str:
        """Return what to say if too much is waiting already to accept one more; else an empty text."""
        queues = self.page._queue.event_queue_per_concurrency_id.values()
        opening = Counter(event.session_hash for queue in queues for event in queue.queue)
        waiting = self._clicks if path == CLICK else opening
        own = sum(number for name, number in waiting.items() if self._owners.get(name) == visitor)
        if waiting[session] >= OF_WINDOW or own >= OF_VISITOR:
            return ENOUGH
        return BUSY if waiting.total() >= OF_ALL else ""

    async def _take_upload(self, scope: Scope, receive: Receive, send: Send, headers: Headers) -> None:
        """Accept an upload if there is room for it."""
        length = headers.get("content-length", "")
        size = int(length) if length.isascii() and length.isdigit() else MAX_FORM + 1
        said = ""
        if size > MAX_FORM:
            said = f"The file has more than {MAX_FILE // 1_000_000} MB: save the photo as JPEG and try again."
        elif shutil.disk_usage(own_folder()).free < size + self._coming + SPARE:
            said = "The disk of this page's temporary files is full: make room on it and try again."
        elif used() + self._coming + size > QUOTA:
            said = "This page holds as many photos as it has room for: try again in ten minutes."
        if said:
            await _whole(receive, 0)  # a browser listens only after it has sent everything
            return await _refused(said, 413 if size > MAX_FORM else 507)(scope, receive, send)
        self._coming += size
        try:
            await self.app(scope, receive, _with_headers(send, "", failed="The file could not be stored: try again."))
        finally:
            self._coming -= size


def _stranger(headers: Headers, scheme: str, method: str) -> Response | None:
    """Return the refusal of a request under another name than this machine's, or from another page; else None."""
    host = headers.get("host", "")
    name, _, port = host.rpartition(":") if not host.endswith("]") and ":" in host else (host, "", "")
    if len(headers.getlist("host")) != 1 or name.lower() not in HOSTS or (port and not port.isdigit()):
        return _refused("This page has the names localhost and 127.0.0.1 only.", 421)
    origins = headers.getlist("origin")
    elsewhere = headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
    is_link = method == "GET" and headers.get("sec-fetch-mode") == "navigate"
    if any(origin.lower() != f"{scheme}://{host.lower()}" for origin in origins) or (elsewhere and not is_link):
        return _refused("This page takes nothing from other pages.", 403)
    return None


def _not_offered(method: str, path: str) -> Response | None:
    """Return the refusal of a request for something that the page does not need; else None."""
    if method in ("GET", "HEAD"):
        if path in (*PAGES, *ASKED) or path.startswith(READ):
            return None
        if path.startswith(FILE) and _is_own(path.removeprefix(FILE)):
            return None
    if method == "POST" and path in (*POSTED, UPLOAD):
        return None
    return _refused("There is nothing here.", 404)


def _names_uploads(data: Any) -> bool:
    """Return whether all files that a message names are in the page's own folder."""
    if isinstance(data, list):
        return all(map(_names_uploads, data))
    if not isinstance(data, dict):
        return True
    path = data.get("path")
    if path is not None and not (isinstance(path, str) and "\0" not in path and _is_own(path)):
        return False
    return all(map(_names_uploads, data.values()))


def _is_own(path: str) -> bool:
    try:
        return Path(path).is_absolute() and Path(path).resolve().is_relative_to(own_folder().resolve())
    except (OSError, ValueError, RuntimeError):
        return False


def _cookie(headers: Headers) -> str:
    """Return who asks, by a cookie that only this page sets; empty if there is none."""
    try:
        cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return cookie.value[:LONGEST] if cookie else ""


def _refused(said: str, status: int) -> Response:
    return PlainTextResponse(said, status, HEADERS)


async def _whole(receive: Receive, most: int) -> bytes | None:
    """Return a request's complete body; None if it is longer than `most`, or incomplete."""
    body: bytearray | None = bytearray()
    while True:
        part = await receive()
        if part["type"] == "http.disconnect":
            return None
        if body is not None:
            body += part.get("body", b"")
            body = body if len(body) <= most else None
        if not part.get("more_body"):
            return None if body is None else bytes(body)


def _again(body: bytes, receive: Receive) -> Receive:
    """Return a function that delivers a body once more after it was read."""
    parts = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> MutableMapping[str, Any]:
        return parts.pop() if parts else await receive()

    return receive_again


def _with_headers(send: Send, cookie: str, failed: str = "") -> Send:
    """Return a `send` that adds the page's headers and a cookie, and replaces a failure's own words by `failed`."""
    replaced = False

    async def send_with_headers(message: MutableMapping[str, Any]) -> None:
        nonlocal replaced
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=message["headers"])
            for name in [name for name in headers if name.lower().startswith("access-control-")]:
                del headers[name]
            headers.update(HEADERS)
            if cookie:
                headers.append("Set-Cookie", f"{COOKIE}={cookie}; Path=/; HttpOnly; SameSite=Strict")
            if failed and message["status"] >= 500:
                replaced = True
                headers["Content-Length"] = str(len(failed.encode()))
        elif replaced:
            message = {"type": "http.response.body", "body": failed.encode(), "more_body": False}
        await send(message)

    return send_with_headers
