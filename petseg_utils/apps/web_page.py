"""The page that needs no server: one file, or a folder for any web host; the browser runs the models itself."""

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

from petseg_utils import __version__
from petseg_utils.apps.cutouts import EXAMPLES
from petseg_utils.apps.page_state import SWITCH, SWITCH_HELP
from petseg_utils.data.labels import CLASS_COLOURS
from petseg_utils.models.cards import SHIPPED
from petseg_utils.models.exported import CLICK_HEAD, DECODER, ENCODER, ExportedModel
from petseg_utils.segmenter import MAX_PIXELS
from petseg_utils.study import ROOT, PetsegError, shown, write_text

SOURCES = Path(__file__).parent / "web"
RUNTIME = ROOT / "node_modules" / "onnxruntime-web" / "dist"
TITLE = "<title>Cut out a cat or a dog · petseg</title>"  # identifies a page that was written here
# The plain build: the one for graphics cards would be twice as large.
RUNTIME_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
WORKER = ("clicks.js", "edges.js", "open_photo.js", "png.js", "coco.js", "worker.js")  # each after what it imports


def write_page(out: Path) -> list[Path]:
    """Write the page with which a browser cuts pets out of photos by itself.

    Parameters
    ----------
    out : Path
        If the name ends in ``.html``: one file that contains everything and opens from a disk.  Otherwise: a folder for
        a web host, in which ``index.html`` loads the files beside it.

    Raises
    ------
    PetsegError
        If npm's packages are missing, or another page has that name.
    """
    place = out if out.suffix == ".html" else out / "index.html"
    if place.is_file() and TITLE.encode() not in place.read_bytes()[:2000]:
        raise PetsegError(f"{shown(place)} was not written by petseg web, so it is not replaced: choose another name.")
    packed = _packed_files()
    if out.suffix == ".html":
        out.parent.mkdir(parents=True, exist_ok=True)
        embedded = {name: base64.b64encode(content).decode("ascii") for name, content in packed.items()}
        write_text(out, _page({name: {} for name in packed}, embedded))
        return [out]
    out.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, content in packed.items():
        # A new version gets a new name, so that a browser never mixes it with what it has cached of an old one.
        stem, dot, ending = name.rpartition(".")
        files[name] = f"{stem}-{hashlib.sha256(content).hexdigest()[:8]}{dot}{ending}.gz"
        (out / files[name]).write_bytes(content)
    megabytes = sum(map(len, packed.values())) / 1e6
    page = _page({name: {"address": address} for name, address in files.items()}, {}, megabytes)
    write_text(out / "index.html", page)
    return [out / name for name in ("index.html", *files.values())]


def _packed_files() -> dict[str, bytes]:
    """Return the files that the page runs, compressed by gzip; the bytes are the same each time."""
    missing = [name for name in RUNTIME_FILES if not (RUNTIME / name).is_file()]
    if missing:
        raise PetsegError("The page needs npm's packages, which are not installed: run make setup in a checkout.")
    models = [SHIPPED / name for name in (ENCODER, DECODER, CLICK_HEAD)]
    paths = [*(RUNTIME / name for name in RUNTIME_FILES), *models]
    return {path.name: gzip.compress(path.read_bytes(), mtime=0) for path in paths}


def _page(files: dict[str, dict], embedded: dict[str, str], megabytes: float = 0) -> str:
    """Return the page's HTML; `files` says where each file is, `embedded` holds those that are in the page."""
    model = ExportedModel(SHIPPED / CLICK_HEAD)
    settings = {"size": model.card["image_size"], "scale": model.scale, "peak": model.card.get("peak", 0.0)}
    settings |= {"maxPixels": MAX_PIXELS, "colours": CLASS_COLOURS, "files": files}
    environment = Environment(loader=FileSystemLoader(SOURCES), trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("page.html.j2").render(
        title=TITLE,
        whole=bool(embedded),
        megabytes=megabytes,
        css=(SOURCES / "page.css").read_text(encoding="utf-8"),
        settings=json.dumps(settings),
        switch=SWITCH,
        switch_help=SWITCH_HELP,
        worker=_joined(WORKER),
        page=_joined(["page.js"]),
        chelsea=base64.b64encode(EXAMPLES["Chelsea"].read_bytes()).decode("ascii"),
        embedded=embedded,
        version=__version__,
    )


def _joined(names: Iterable[str]) -> str:
    """Join modules to one: their imports of each other are dropped, as all names are then in one scope."""
    text = "\n".join((SOURCES / name).read_text(encoding="utf-8") for name in names)
    text = re.sub(r"^import [^;]+;\n", "", text, flags=re.MULTILINE)
    return re.sub(r"^export (?=class|const|function|async)", "", text, flags=re.MULTILINE)
