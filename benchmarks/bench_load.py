"""What the demo page bears: many visitors who click at once, and many photos one after another; times and memory.

Usage: python benchmarks/bench_load.py [--visitors 50] [--seconds 60] [--pause 3] [--photos 1000] [--json OUT]

Each visitor has a session of their own, opens the example as the page does, and then clicks, waits for the picture,
fetches it, and pauses.  Afterwards all leave, and a minute later the page's memory is read once more.  The photos are
scikit-image's Chelsea, each with another size, uploaded and opened by one visitor.
"""

import argparse
import asyncio
import io
import json
import random
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
from PIL import Image
from skimage.data import chelsea

API = "/gradio_api"


class Visitor:
    """A simulated user with a window of their own, who sends what the browser would send."""

    def __init__(self, address: str):
        self.client = httpx.AsyncClient(base_url=address, timeout=120, trust_env=False)
        self.session = f"{random.getrandbits(64):x}"
        self.turned_away = 0  # how often

    async def come(self) -> None:
        """Load the page: its example is opened."""
        await self.client.get("/")
        self.config = (await self.client.get("/config")).json()
        self.values = {part["id"]: part["props"].get("value") for part in self.config["components"]}
        self.beats = asyncio.create_task(self._beat())
        await self.ask(self.event("load", 1))

    async def leave(self) -> None:
        """Close the window."""
        self.beats.cancel()
        await self.client.aclose()

    async def _beat(self) -> None:
        async with self.client.stream("GET", f"{API}/heartbeat/{self.session}") as beats:
            async for _ in beats.aiter_lines():
                pass

    def event(self, kind: str, most_inputs_at_least: int, target: int | None = None) -> dict:
        """Return the page's handler of such an event."""
        return next(
            answer
            for answer in self.config["dependencies"]
            if any(event == kind and target in (None, at) for at, event in answer["targets"])
            and len(answer["inputs"]) >= most_inputs_at_least
        )

    async def ask(self, event: dict, data: list | None = None, told: dict | None = None) -> dict:
        """Have the page answer an event; return its output."""
        body = {
            "data": data if data is not None else [self.values.get(number) for number in event["inputs"]],
            "event_data": told,
            "fn_index": event["id"],
            "session_hash": self.session,
        }
        if event["queue"] is False:
            answer = await self.client.post(f"{API}/run/predict", json=body)
            answer.raise_for_status()
            return answer.json()
        while (answer := await self.client.post(f"{API}/queue/join", json=body)).status_code == 429:
            self.turned_away += 1  # the page is busy and says so: try again in a few seconds, as a person would
            await asyncio.sleep(random.uniform(2, 4))
        number = answer.raise_for_status().json()["event_id"]
        async with self.client.stream("GET", f"{API}/queue/data?session_hash={self.session}") as lines:
            async for line in lines.aiter_lines():
                said = json.loads(line.removeprefix("data:")) if line.startswith("data:") else {}
                if said.get("event_id") == number and said["msg"] == "process_completed":
                    if not said["success"]:
                        raise RuntimeError(str(said))
                    return said["output"]
        raise RuntimeError("no answer")

    async def click(self) -> None:
        """Click somewhere on the picture, and fetch the next one."""
        picture = next(part["id"] for part in self.config["components"] if part["props"].get("elem_id") == "picture")
        told = {"index": [random.randrange(50, 750), random.randrange(50, 480)], "value": None}
        output = await self.ask(self.event("select", 1, picture), told=told)
        shown, said = output["data"][:2]
        if "Selected" not in str(said) and "Nothing" not in str(said):
            raise RuntimeError(str(said))
        (await self.client.get(f"{API}/file={shown['path']}")).raise_for_status()

    async def open(self, content: bytes) -> None:
        """Upload a photo and open it."""
        answer = await self.client.post(f"{API}/upload", files={"files": ("photo.jpg", content, "image/jpeg")})
        (path,) = answer.raise_for_status().json()
        event = self.event("upload", 1)
        file = {"path": path, "orig_name": "photo.jpg", "size": len(content), "meta": {"_type": "gradio.FileData"}}
        data = [file, *(self.values.get(number) for number in event["inputs"][1:])]
        if "Proposed" not in str(await self.ask(event, data)):
            raise RuntimeError("the photo was not opened")


def memory(server: subprocess.Popen) -> tuple[float, float]:
    """Return MB of memory of the page's process, and of the processes that it started."""
    process = psutil.Process(server.pid)
    children = sum(child.memory_info().rss for child in process.children(recursive=True))
    return process.memory_info().rss / 2**20, children / 2**20


async def many_visitors(address: str, server: subprocess.Popen, visitors: int, seconds: float, pause: float) -> dict:
    """Let visitors click, each for this many seconds; then they leave."""
    first = Visitor(address)
    await first.come()  # loads the model
    await first.click()
    await first.leave()
    before = memory(server)
    numbers: dict = {"visitors": visitors, "before, MB": before[0]}
    times, errors, turned_away = [], [], 0

    async def visit() -> None:
        nonlocal turned_away
        visitor = Visitor(address)
        try:
            await visitor.come()
            end = time.perf_counter() + seconds
            while time.perf_counter() < end:
                await asyncio.sleep(random.uniform(0.5, 1.5) * pause)
                began = time.perf_counter()
                await visitor.click()
                times.append(time.perf_counter() - began)
        except Exception as error:
            errors.append(repr(error))
        finally:
            turned_away += visitor.turned_away
            await visitor.leave()

    worked = sum(psutil.Process(server.pid).cpu_times()[:2])
    tasks = [asyncio.create_task(visit()) for _ in range(visitors)]
    await asyncio.sleep(seconds)
    numbers["at work, MB"] = memory(server)[0]
    await asyncio.gather(*tasks)
    numbers |= {"clicks": len(times), "errors": len(errors), "told to come again": turned_away}
    numbers |= {"median, s": statistics.median(times)}
    numbers |= {"95 %, s": statistics.quantiles(times, n=20)[-1], "slowest, s": max(times)}
    numbers["the page's work per click, s"] = (sum(psutil.Process(server.pid).cpu_times()[:2]) - worked) / len(times)
    await asyncio.sleep(60)
    numbers["a minute later, MB"] = memory(server)[0]
    for error in errors[:3]:
        print(error, file=sys.stderr)
    return numbers


async def many_photos(address: str, server: subprocess.Popen, photos: int) -> dict:
    """Let one visitor open photos one after another."""
    visitor = Visitor(address)
    await visitor.come()
    numbers: dict = {"photos": photos}
    began = time.perf_counter()
    for number in range(photos):
        content = io.BytesIO()
        Image.fromarray(chelsea()).resize((600 + number % 500, 400 + number % 300)).save(content, "JPEG")
        await visitor.open(content.getvalue())
        if number + 1 in (photos // 10, photos // 2, photos):
            own, children = memory(server)
            numbers[f"after {number + 1}, MB"] = own
            numbers[f"after {number + 1}, MB of child processes"] = children
    numbers["a photo, s"] = (time.perf_counter() - began) / photos
    await visitor.leave()
    return numbers


def main() -> None:
    """Start the page by its command, measure, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--visitors", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument(
        "--pause", type=float, default=3, help="seconds between a picture and the next click, on average"
    )
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the numbers to this file")
    options = parser.parse_args()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    server = subprocess.Popen([sys.executable, "-m", "petseg_utils", "demo", "--port", str(port)])
    try:
        while True:
            try:
                httpx.get(address, trust_env=False)
                break
            except httpx.TransportError:
                time.sleep(0.1)
        numbers = asyncio.run(many_visitors(address, server, options.visitors, options.seconds, options.pause))
        if options.photos:
            numbers |= asyncio.run(many_photos(address, server, options.photos))
    finally:
        server.terminate()  # Ctrl-C is ignored by what a shell started in the background
        server.wait()
    for name, value in numbers.items():
        print(f"{name:36} {value:10.2f}")
    if options.json:
        options.json.write_text(json.dumps(numbers, indent=2) + "\n")


if __name__ == "__main__":
    main()
