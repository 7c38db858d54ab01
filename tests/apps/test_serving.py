"""What the page lets in and what it keeps, seen from outside: requests as browsers, and others, send them."""

import io
import json
import os
import pickle
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path
from random import Random
from types import SimpleNamespace

import gradio as gr
import httpx
import numpy as np
import pytest
from PIL import Image
from skimage.data import chelsea

from petseg_utils.apps import child_processes, page_door, page_folder
from petseg_utils.apps import page as app
from petseg_utils.apps.child_processes import Children, reduce_photo
from petseg_utils.apps.page_door import Door
from petseg_utils.apps.serving import close_abandoned, serving
from petseg_utils.study import ROOT, PetsegError
from tests.apps.fake_point import SIZE, cat_and_dog, fake_segmenter

API = "/gradio_api"
posix = pytest.mark.skipif(os.name != "posix", reason="by POSIX signals and limits")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def served():
    """A page with a fake model; the page, and where it is."""
    patch = pytest.MonkeyPatch()
    segmenter = fake_segmenter()
    patch.setattr(app, "load_model", lambda name: segmenter)
    page, port = app.make_page(), free_port()
    with serving(page, port, **app.LOOKS):
        yield SimpleNamespace(page=page, address=f"http://127.0.0.1:{port}", port=port)
    patch.undo()


class Browser:
    """Somebody who sends what a browser would send."""

    def __init__(self, served):
        self.client = httpx.Client(base_url=served.address, trust_env=False, timeout=60)
        self.session = secrets.token_hex(6)
        self.client.get("/")  # gives a cookie
        self.config = self.client.get("/config").json()

    def ask(self, kind: str, *first, elem_id: str | None = None, told: dict | None = None) -> httpx.Response:
        """Have the page answer an event with inputs; `first` are its first ones after the state."""
        at = [one["id"] for one in self.config["components"] if one["props"].get("elem_id") == elem_id]
        values = {one["id"]: one["props"].get("value") for one in self.config["components"]}
        event = next(
            one
            for one in self.config["dependencies"]
            if any(event == kind and (elem_id is None or target in at) for target, event in one["targets"])
            and one["inputs"]
        )
        data = [*first, *[values[one] for one in event["inputs"]][len(first) :]]
        body = {"data": data, "event_data": told, "fn_index": event["id"], "session_hash": self.session}
        if event["queue"] is False:
            return self.client.post(f"{API}/run/predict", json=body)
        answer = self.client.post(f"{API}/queue/join", json=body)
        if answer.status_code != 200:
            return answer
        with self.client.stream("GET", f"{API}/queue/data?session_hash={self.session}") as lines:
            for line in lines.iter_lines():
                if "process_completed" in line:
                    return httpx.Response(200, json=json.loads(line.removeprefix("data:"))["output"])

    def click(self) -> str:
        answer = self.ask("select", elem_id="picture", told={"index": [300, 200], "value": None})
        return answer.json()["data"][1]

    def upload(self, content: bytes, name: str = "photo.png", **options) -> httpx.Response:
        return self.client.post(f"{API}/upload", files={"files": (name, content)}, **options)


@pytest.fixture
def browser(served):
    """One whose page has loaded."""
    somebody = Browser(served)
    assert "Proposed" in somebody.ask("load").text or "Nothing" in somebody.ask("load").text
    return somebody


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example:{port}", "localhost:1@evil.example", "", "[::2]"],
)
def test_a_foreign_host_gets_nothing(served, host):
    for path in ("/", "/config", f"{API}/queue/join"):
        method = "POST" if path.endswith("join") else "GET"
        headers = {"Host": host.format(port=served.port), "Origin": f"http://{host.format(port=served.port)}"}
        answer = httpx.request(method, served.address + path, headers=headers, trust_env=False)
        assert answer.status_code in (400, 421) and "petseg" not in answer.text
        assert not any(name.startswith("access-control") for name in answer.headers)


@pytest.mark.parametrize("host", ["localhost:{port}", "127.0.0.1:{port}", "LOCALHOST", "[::1]:{port}"])
def test_this_machines_own_names_are_answered(served, host):
    answer = httpx.get(served.address, headers={"Host": host.format(port=served.port)}, trust_env=False)
    assert answer.status_code == 200 and '"title":"petseg"' in answer.text


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1:{port}"])
def test_a_foreign_origin_gets_nothing_and_stores_nothing(served, browser, origin):
    origin, before = origin.format(port=served.port), page_folder.used()
    for method, path in (("GET", "/"), ("POST", f"{API}/upload"), ("POST", f"{API}/run/predict"), ("OPTIONS", "/")):
        headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        form = {"files": {"files": ("a.png", b"0" * 100_000)}} if path.endswith("upload") else {}
        answer = browser.client.request(method, path, headers=headers, **form)
        assert answer.status_code == 403
        assert not any(name.startswith("access-control") for name in answer.headers)
    image = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    assert browser.client.get(f"{API}/heartbeat/abc", headers=image).status_code == 403
    assert browser.client.get("/", headers={**image, "Sec-Fetch-Mode": "navigate"}).status_code == 200  # a link
    assert page_folder.used() == before


def test_what_the_page_needs_comes_without_open_doors(served, browser):
    answer = browser.client.get("/", headers={"Origin": served.address})
    assert answer.status_code == 200 and not any(name.startswith("access-control") for name in answer.headers)
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    cookie = httpx.get(served.address, trust_env=False).headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie


@pytest.mark.parametrize(
    "path",
    ["/monitoring", "/monitoring/summary", "/docs", "/openapi.json", "/gradio_api/info", "/gradio_api/openapi.json",
     "/gradio_api/proxy=http://127.0.0.1:1/", "/gradio_api/file=/etc/passwd", "/gradio_api/file=http://127.0.0.1:1/",
     "/gradio_api/file=../../../etc/passwd", "/gradio_api/runs", "/gradio_api/deep_link", "/login",
     "/gradio_api/call/x/y", "/gradio_api/stream/a/b/c/playlist.m3u8", "/gradio_api/vibe-code"],
)  # fmt: skip
def test_what_the_page_does_not_need_is_closed(served, path):
    assert httpx.get(served.address + path, trust_env=False).status_code == 404
    assert httpx.post(served.address + path, json={}, trust_env=False).status_code == 404


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "http://127.0.0.1:1/cat.png", "https://example.org/a.png", "../x.png", "", "a\0b", 7, {}]
)
def test_addresses_and_paths_are_no_uploads(served, browser, path):
    file = {"path": path, "url": "http://127.0.0.1:1/cat.png", "meta": {"_type": "gradio.FileData"}}
    answer = browser.ask("upload", file)
    assert answer.status_code == 400
    assert answer.text == "A photo is an uploaded file: no address and no path of this machine is taken for one."


def test_an_upload_is_opened_and_clicked_on(served, browser, tmp_path):
    Image.fromarray(cat_and_dog()).save(tmp_path / "a.png")
    (path,) = browser.upload((tmp_path / "a.png").read_bytes(), "<b>a.png").json()
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    assert "Proposed: cat" in browser.ask("upload", file).text
    assert "Selected: " in browser.click()


def test_another_visitors_session_is_refused(served, browser):
    thief = Browser(served)
    thief.session = browser.session
    assert thief.ask("select", elem_id="picture", told={"index": [1, 1]}).status_code == 403
    stream = f"{API}/queue/data?session_hash="
    for path in (f"{stream}{browser.session}", f"{stream}mine&session_hash={browser.session}"):
        assert thief.client.get(path, timeout=10).status_code == 403
    assert thief.client.get(f"{API}/heartbeat/{browser.session}").status_code == 403
    assert thief.client.post(f"{API}/cancel", json={"session_hash": browser.session}).status_code == 403
    assert browser.click().startswith("<p>")


def test_long_names_of_sessions_and_visitors_are_not_remembered(served, browser):
    """They are kept after the request: ten thousand of them, each as long as a message may be, were 2.5 GB."""
    without_inputs = (number for number, event in served.page.fns.items() if event.fn and not event.inputs)
    body = {"data": [], "fn_index": next(without_inputs), "session_hash": "x" * 1000}
    assert browser.client.post(f"{API}/run/predict", json=body).status_code == 403
    door, cookie = Door(None, served.page), page_door.Headers({"cookie": f"{page_door.COOKIE}={'y' * 1000}"})
    assert door._owns(page_door._cookie(cookie), "z") and len(door._owners["z"]) <= 64


def test_files_come_whole_whatever_range_is_asked_for(browser):
    content = b"\x89PNG" + bytes(1000)
    (path,) = browser.upload(content).json()
    for asked in ("bytes=0-0", "bytes=" + ",".join(f"{at}-{at}" for at in range(0, 900, 2)), "bytes=x"):
        answer = browser.client.get(f"{API}/file={path}", headers={"Range": asked})
        assert answer.status_code == 200 and answer.content == content


def test_a_form_that_another_page_sends_by_navigating_is_refused(browser):
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert browser.client.get("/", headers=headers).status_code == 200  # a link
    assert browser.client.post(f"{API}/reset", json={"event_id": "x"}, headers=headers).status_code == 403
    assert browser.client.post(f"{API}/upload", files={"files": b"x"}, headers=headers).status_code == 403


@pytest.mark.parametrize("told", [True, False])
def test_too_large_an_upload_is_refused_in_words(browser, monkeypatch, told):
    before = page_folder.used()
    monkeypatch.setattr(page_door, "MAX_FORM", 10_000)
    form = {"files": {"files": ("cat.png", b"0" * 20_000)}}
    if not told:  # comes in parts, without a length
        form = {"content": iter([b"0" * 20_000]), "headers": {"Content-Type": "multipart/form-data; boundary=x"}}
    answer = browser.client.post(f"{API}/upload", **form)
    assert answer.status_code == 413 and page_folder.used() == before
    assert answer.text == "The file has more than 156 MB: save the photo as JPEG and try again."


def test_there_is_a_quota_for_all_uploads_and_a_full_disk_is_one_sentence(served, browser, monkeypatch):
    before = page_folder.used()
    monkeypatch.setattr(page_door, "QUOTA", before + 10_000)
    assert browser.upload(b"0" * 1000).status_code == 200
    answer = browser.upload(b"1" * 20_000)
    assert answer.status_code == 507
    assert answer.text == "This page holds as many photos as it has room for: try again in ten minutes."
    monkeypatch.setattr(page_door.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    answer = browser.upload(b"2" * 20_000)
    full = "The disk of this page's temporary files is full: make room on it and try again."
    assert answer.status_code == 507 and answer.text == full
    assert page_folder.used() == before + 1000

    def no_space(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", no_space)
    assert browser.click() == f'<p role="alert">{app.html.escape(full)}</p>'


def nested(number: int) -> bytes:
    """Lists within each other: more than a message has, and fewer than JSON's reader minds."""
    return b"[" * number + b"]" * number


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"7", b"[" * 100_000, b'{"data": "' + b"0" * 300_000 + b'"}', b'{"data": %b}' % nested(400)],
)
def test_what_is_no_message_is_refused(browser, body):
    answer = browser.client.post(f"{API}/run/predict", content=body)
    assert (answer.status_code, answer.text) == (400, "That is no message of this page.")


WRONG = [
    None, True, False, 0, -1, 7, 3.5, 1e308, 10**300, float("nan"), float("inf"), "", "x", "\x00", "../x", "\ud800",
    "yes", [], {}, [[]], [{}], [1], [1, 2, 3], [None, "x"], [float("nan"), 1], [[1], [2]], json.loads(nested(20)),
    {"path": 7}, {"path": "x"}, {"index": {}}, {"index": [1, 2]}, {"index": -5, "value": {}}, {"__type__": "update"},
]  # fmt: skip


def spoiled(random: Random, message: dict) -> dict | list | str | int | float | None:
    """A message with one to three things wrong, or another one altogether."""
    if random.random() < 0.05:
        return random.choice(WRONG)
    message = deepcopy(message)
    for _ in range(random.randint(1, 3)):
        name = random.choice([*message, "trigger_id", "batched", "simple_format", "event_id"])
        how = random.random()
        if how < 0.15:
            message.pop(name, None)
        elif how < 0.6 and isinstance(message.get(name), list) and message[name]:
            message[name][random.randrange(len(message[name]))] = deepcopy(random.choice(WRONG))
        elif how < 0.7 and isinstance(message.get(name), list):
            message[name] = (message[name] + random.choices(WRONG, k=2))[random.randint(0, 2) :]
        elif name != "session_hash" or how < 0.75:
            message[name] = deepcopy(random.choice(WRONG))
    return message


def test_messages_of_wrong_types_are_answered_and_leave_no_traceback(served, browser, capfd, caplog):
    """A hundred for each function of the page, some also by the way that is not its own, and for what else is told."""
    random, values = Random(0), {one["id"]: one["props"].get("value") for one in browser.config["components"]}
    told = {"session_hash": browser.session, "event_data": {"index": [300, 200], "value": None}}
    messages = [(f"{API}/{name}", {**told, "fn_index": 1, "event_id": "x"}, 100) for name in ("cancel", "reset")]
    for number, event in served.page.fns.items():
        message = {**told, "fn_index": number, "data": [values[block._id] for block in event.inputs]}
        for name, queued in (("run/predict", False), ("queue/join", True)):
            messages.append((f"{API}/{name}", message, 100 if event.queue is queued else 10))
    spoilt = [(way, json.dumps(spoiled(random, message))) for way, message, number in messages for _ in range(number)]
    capfd.readouterr()
    with ThreadPoolExecutor(page_door.OF_WINDOW) as pool:
        headers = {"Content-Type": "application/json"}
        answers = pool.map(lambda asked: browser.client.post(asked[0], content=asked[1], headers=headers), spoilt)
        for asked, answer in zip(spoilt, answers, strict=True):
            assert answer.status_code < 500, (asked, answer.text)
    end = time.monotonic() + 120
    while (answer := browser.ask("load")).status_code == 429 and time.monotonic() < end:
        time.sleep(0.5)  # a busy machine is still at what was asked before
    assert re.search("Proposed|Nothing", answer.text)  # came last, and is done last
    assert browser.click().startswith("<p>")
    assert capfd.readouterr() == ("", "") and not [record for record in caplog.records if record.levelname == "ERROR"]


def test_what_else_gradio_offers_is_answered_without_a_traceback(served, browser, capfd, caplog):
    offered = sorted(gr.routes.App.create_app(app.make_page()).openapi()["paths"])
    assert {f"{API}/queue/join", f"{API}/upload", f"{API}/component_server"} <= set(offered)
    paths = {re.sub(r"{[^}]*}", wrong, path) for path in offered for wrong in ("x", "%00", "7", "a/../b", "é" * 40)}
    capfd.readouterr()
    for path in paths:
        for query in ("", "?session_hash=a%00b&upload_id=x"):
            for method, content in (("GET", b""), ("POST", b""), ("POST", b"--x"), ("POST", b'{"data": 7}')):
                headers = {"Content-Type": "multipart/form-data; boundary=x"} if content == b"--x" else {}
                asked = method, path + query
                with browser.client.stream(*asked, content=content, headers=headers) as answer:  # some have no end
                    assert answer.status_code < 500, asked
    assert browser.click().startswith("<p>")
    assert capfd.readouterr() == ("", "") and not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.fixture
def held(monkeypatch):
    """No photo is opened and no click taken before this is set."""
    free = threading.Event()
    for owner, name in ((app, "opened"), (app.Work, "click")):
        action = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *asked, action=action: (free.wait(30), action(*asked))[1])
    yield free
    free.set()


def join(visitor: Browser, session: str = "") -> httpx.Response:
    """Have the example opened, without waiting for it."""
    event = next(
        event for event in visitor.config["dependencies"] if event["inputs"] and event["targets"][0][1] == "load"
    )
    values = {one["id"]: one["props"].get("value") for one in visitor.config["components"]}
    body = {"data": [values[one] for one in event["inputs"]], "fn_index": event["id"]}
    return visitor.client.post(f"{API}/queue/join", json={**body, "session_hash": session or visitor.session})


def test_what_one_window_or_browser_asks_for_leaves_room_for_others(served, browser, held):
    answers = [join(browser) for _ in range(30)]
    taken = [answer for answer in answers if answer.status_code == 200]
    assert page_door.OF_WINDOW <= len(taken) <= page_door.OF_WINDOW + 1  # one is being opened
    refused = {(answer.status_code, answer.json()["detail"]) for answer in answers[len(taken) :]}
    assert refused == {(429, page_door.ENOUGH)}
    windows = [join(browser, secrets.token_hex(6)).status_code for _ in range(30)]
    assert windows == sorted(windows) and windows.count(200) == page_door.OF_VISITOR - page_door.OF_WINDOW
    assert join(other := Browser(served)).status_code == 200
    held.set()
    assert re.search("Proposed|Nothing", other.ask("load").text)
    assert re.search("Proposed|Nothing", browser.ask("load").text)  # and all goes on


def test_a_busy_page_says_so_at_once(served, browser, held, monkeypatch):
    monkeypatch.setattr(page_door, "OF_ALL", 3)
    for _ in range(4):
        join(Browser(served))
        time.sleep(0.1)  # the first one is begun
    answer = join(Browser(served))
    assert (answer.status_code, answer.json()) == (429, {"detail": page_door.BUSY})


def test_as_many_clicks_as_a_browser_sends_at_once_are_taken_and_no_more(served, browser, held):
    with ThreadPoolExecutor(12) as pool:
        clicks = [pool.submit(browser.ask, "select", elem_id="picture", told={"index": [9, 9]}) for _ in range(12)]
        while sum(click.done() for click in clicks) < 4:
            time.sleep(0.01)
        held.set()
    statuses = sorted(click.result().status_code for click in clicks)
    assert statuses == [200] * page_door.OF_WINDOW + [429] * 4
    assert browser.click().startswith("<p>")


def test_the_oldest_of_too_many_visitors_is_told_what_to_do(served, monkeypatch):
    visitors = [Browser(served) for _ in range(3)]
    served.page.state_holder.session_data.clear()
    monkeypatch.setattr(served.page.state_holder, "capacity", 2)
    for visitor in visitors:
        visitor.ask("load")
    assert visitors[2].click().startswith("<p>") and visitors[1].click().startswith("<p>")
    assert visitors[0].click() == f'<p role="alert">{app.GONE}</p>'
    visitors[0].ask("load")  # reloads
    assert visitors[0].click().startswith("<p>")


def test_what_a_visitor_left_open_is_closed_when_the_window_is_gone(served, browser, monkeypatch):
    door, photos = Door(None, served.page), page_folder.own_folder() / "photos"
    monkeypatch.setattr("petseg_utils.apps.serving.AWAY", -1)
    door.open[browser.session] = 1
    close_abandoned(served.page, door)
    assert browser.click().startswith("<p>") and any(photos.iterdir())
    del door.open[browser.session]
    assert close_abandoned(served.page, door) == 1
    assert not any(photos.iterdir())  # with the photo
    assert app.GONE in browser.click()


def test_pictures_and_uploads_do_not_pile_up(served, browser, monkeypatch):
    folder = page_folder.own_folder()
    for _ in range(8):
        browser.click()
    pictures = len(list(folder.glob("*/photo.jpg")))
    for _ in range(5):
        browser.click()
    assert len(list(folder.glob("*/photo.jpg"))) == pictures
    browser.upload(b"0" * 1000)
    monkeypatch.setattr(page_folder, "KEPT", -1)
    page_folder.tidy()
    assert sorted(path.name for path in folder.iterdir()) == ["examples", "photos"]
    assert browser.click().startswith("<p>")


# Child processes


@pytest.fixture(scope="module")
def children():
    return Children()


def crash(*_) -> None:
    os.kill(os.getpid(), signal.SIGSEGV if os.name == "posix" else signal.SIGTERM)


def test_a_decoder_that_crashes_costs_a_sentence_and_the_next_photo_is_read(children, tmp_path):
    Image.fromarray(chelsea()).save(path := tmp_path / "cat.png")
    for _ in range(3):  # more often than there are children
        with pytest.raises(PetsegError, match=r"^cat.png is damaged, and its decoder crashed: save it anew"):
            children.call("cat.png", crash)
    facts, (square, picture) = children.call("cat.png", reduce_photo, path, "cat.png", SIZE, 2)
    assert facts == {"height": 300, "width": 451} and len(square) == (2 * SIZE) ** 2 * 3
    assert picture[:2] == b"\xff\xd8"


@pytest.mark.parametrize(
    "said",
    [
        b"",
        pickle.dumps(Path()) + b"\n",
        b"[]\n",
        b'{"trouble": "", "facts": {}, "sizes": [9]}\ncut',
        b'{"sizes": [1e12]}\n',
    ],
)
def test_what_a_child_says_is_plain_or_no_answer(said):
    with pytest.raises((ValueError, KeyError, TypeError)):
        child_processes._heard(io.BytesIO(said))


def test_a_decoder_that_hangs_is_stopped(children, monkeypatch):
    monkeypatch.setattr(child_processes, "SECONDS", 0.2)
    with pytest.raises(PetsegError, match=r"^cat.png takes more than 0.2 seconds"):
        children.call("cat.png", time.sleep, 30)


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_a_decoder_gets_no_more_memory_than_there_is_for_it(children):
    with pytest.raises(PetsegError, match=r"^cat.png takes more memory than there is: make it smaller"):
        children.call("cat.png", np.ones, 4 * 1024**3, np.uint8)


def test_the_page_says_so_too_and_what_was_open_stays(served, browser, monkeypatch):
    monkeypatch.setattr(app, "reduce_photo", crash)
    (path,) = browser.upload(b"0", "cat.png").json()
    said = browser.ask("upload", {"path": path, "meta": {"_type": "gradio.FileData"}}).text
    assert "cat.png is damaged, and its decoder crashed" in said
    assert browser.click().startswith("<p>")


@posix
def test_children_end_with_the_page_however_that_ends(tmp_path):
    code = "import time\nfrom petseg_utils.apps.child_processes import *\nchildren.start()\n"
    code += "print(*[child._process.pid for child in children._idle.queue], flush=True)\ntime.sleep(60)"
    page = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    numbers = [int(number) for number in page.stdout.readline().split()]
    assert len(numbers) == 2
    page.kill()
    page.wait()
    for _ in range(100):
        if not any(Path(f"/proc/{number}").exists() for number in numbers):
            return
        time.sleep(0.1)
    pytest.fail("they live on")


# Files


@posix
def test_folders_of_killed_pages_are_deleted_and_those_of_running_ones_are_not(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    code = "import time\nfrom petseg_utils.apps.page_folder import own_folder\n"
    code += "print(own_folder(), flush=True)\ntime.sleep(60)"
    pages = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    folders = [Path(page.stdout.readline().strip()) for page in pages]
    others = tmp_path / "petseg-page-other"
    others.mkdir()  # nobody's: without a lock
    pages[0].kill()
    pages[0].wait()
    assert all(folder.is_dir() for folder in folders)
    run = subprocess.run([sys.executable, "-c", code.replace("60", "0")], cwd=ROOT, capture_output=True, text=True)
    assert not folders[0].exists() and folders[1].is_dir() and others.is_dir()
    assert not Path(run.stdout.strip()).exists()  # its own, at its end
    pages[1].kill()
    pages[1].wait()


@pytest.fixture
def heeded():
    """What gives a signal its default meaning: below nohup this process and its children ignore SIGHUP."""
    before = {}

    def heed(number):
        before[number] = signal.signal(number, signal.SIG_DFL)

    yield heed
    for number, meaning in before.items():
        signal.signal(number, meaning)


@posix
@pytest.mark.parametrize(
    ("number", "proxies"),
    [
        (signal.SIGTERM, {"http_proxy": "http://127.0.0.1:{port}", "HTTP_PROXY": "http://127.0.0.1:{port}"}),
        (signal.SIGHUP, {"ALL_PROXY": "socks5://127.0.0.1:{port}", "NO_PROXY": "localhost,fe80::/10"}),
    ],
)
def test_the_page_opens_behind_any_proxy_asks_it_nothing_and_ends_in_order(tmp_path, number, proxies, heeded):
    heeded(number)
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        asked, port = [], free_port()
        threading.Thread(target=lambda: asked.append(proxy.accept()), daemon=True).start()
        values = {name: value.format(port=proxy.getsockname()[1]) for name, value in proxies.items()}
        environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
        environment |= values | {"TMPDIR": str(tmp_path)}
        command = [sys.executable, "-m", "petseg_utils", "demo", "--port", str(port)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        page = subprocess.Popen(command, cwd=ROOT, env=environment, **pipes)
        assert re.match(rf"Open http://127.0.0.1:{port} ", said := page.stdout.readline()), said
        assert httpx.get(f"http://127.0.0.1:{port}", trust_env=False).status_code == 200
        assert len(list(tmp_path.glob("petseg-page-*"))) == 2  # the folder and its lock
        page.send_signal(number)
        assert page.communicate(timeout=60)[0] == "" and page.returncode == 128 + number
        assert not list(tmp_path.glob("petseg-page-*")) and not asked
