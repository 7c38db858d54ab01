"""Turn a notebook that was run into a self-contained page."""

import base64
import hashlib
import io
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
from bs4 import BeautifulSoup, Tag
from jinja2 import Environment, FileSystemLoader, Template
from markupsafe import Markup
from nbconvert import HTMLExporter
from nbconvert.filters import markdown2html
from nbformat import NotebookNode
from PIL import Image
from traitlets.config import Config

from petseg_utils.study import Study
from petseg_utils.study.provenance import git_commit

PICTURES = ("PNG", "JPEG", "GIF", "WEBP")  # the formats of figures
HEAVY = 150_000  # bytes; figures from this size on are compressed again
WIDEST = 1800  # pixels; the page shows figures 1080 wide, and phones and good screens have up to twice as many
TRY_TAG = "try-page"  # tag of the notebook cell whose widget is replaced by the page for one's own photos
WIDE = 800  # pixels; wider figures are not shrunk to a phone's screen
_ONE = r"[-+−±]?[\d.,]+(e[-+]?\d+)?\s?%?"
NUMBER = re.compile(rf"{_ONE}( \[{_ONE}, {_ONE}\])?|nan|none|absent|–|-?inf", re.IGNORECASE)  # with its interval
_CELLS = """
{%- extends 'basic/index.html.j2' -%}
{% block codecell %}
{% if "solution" in cell.metadata.tags %}
<details class="solution"{% if cell.metadata.failed %} open id="failed"{% endif %}>
<summary>Solution</summary>
{{ super() }}
</details>
{% else %}{{ super() }}{% endif %}
{% endblock %}
{% block input %}{% if "solution" in cell.metadata.tags %}
<div class="code">{{ cell.source.strip() | highlight_code(metadata=cell.metadata) }}</div>
{% elif cell.source.strip() %}
<details class="code"{% if cell.metadata.failed %} open id="failed"{% endif %}>
{% set lines = cell.source.strip().splitlines() | length -%}
<summary>code <span>{{ lines }} line{{ "s" if lines > 1 }}</span></summary>
{{ cell.source.strip() | highlight_code(metadata=cell.metadata) }}
</details>
{% endif %}{% endblock %}
{% block stream_stderr %}
<details class="messages"><summary>messages</summary><pre>{{ output.text | ansi2html }}</pre></details>
{% endblock %}
"""
_SHOWN_FIRST = [
    "text/html", "text/markdown", "image/svg+xml", "image/png", "image/jpeg", "text/latex", "text/plain",
]  # fmt: skip


@dataclass(frozen=True)
class Sheet:
    """What is known of a notebook before it runs: file, number, heading and question."""

    path: Path
    title: str
    question: str

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.stem

    @property
    def number(self) -> str:
        """The digits that the name starts with."""
        return self.name.split("_")[0]

    @property
    def short(self) -> str:
        """The name in words, for navigation."""
        words = self.name.partition("_")[2].replace("_", " ") or self.name
        return words.replace("unet", "U-Net").replace("clip decoder", "frozen features")


@dataclass(frozen=True)
class TryPage:
    """The page on which readers try the models on their own photos.

    Parameters
    ----------
    link : str or None
        Its address; None if it was left out.
    reason : str
        Why it was left out.
    """

    link: str | None
    reason: str = ""


def read_sheet(path: Path) -> Sheet:
    """Read a notebook's heading, and its first quotation or, failing that, its first paragraph."""
    book = nbformat.read(path, as_version=4)
    text = "\n\n".join(cell.source for cell in book.cells if cell.cell_type == "markdown")
    soup = BeautifulSoup(markdown2html(text), "html.parser")
    for link in soup.select(".anchor-link"):
        link.decompose()
    heading, question = soup.find(re.compile("^h[1-6]$")), soup.blockquote or soup.p
    return Sheet(path, _text_of(heading) or path.stem.replace("_", " "), _text_of(question))


def render_page(
    study: Study,
    book: NotebookNode,
    sheet: Sheet,
    linked: list[Sheet],
    failure: object | None,
    seconds: float,
    try_it: TryPage | None = None,
) -> str:
    """Render the page of one notebook that was run.

    Parameters
    ----------
    book : NotebookNode
        The notebook with its outputs; if a cell failed, it has ``failed`` in its metadata.
    try_it : TryPage, optional
        Replaces the outputs of a cell with the tag `TRY_TAG`; by default, those outputs stay.
    """
    book.metadata.pop("widgets", None)
    exporter = HTMLExporter(
        config=Config({"NbConvertBase": {"display_data_priority": _SHOWN_FIRST}}),
        template_name="basic",
        raw_template=_CELLS,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        embed_images=True,
        anchor_link_text="#",
    )
    html, _ = exporter.from_notebook_node(book, {"metadata": {"path": str(sheet.path.parent)}})
    soup = BeautifulSoup(html, "html.parser")
    _tidy_page(soup, sheet, {other.path.name: f"{other.name}.html" for other in linked})
    position = linked.index(sheet)
    for place in soup.select(f".celltag_{TRY_TAG} .output:not(:has(.output_error))") if try_it else ():
        place.clear()
        place.append(BeautifulSoup(template("try.html.j2").render(try_it=try_it), "html.parser"))
    return template().render(
        study=study,
        title=sheet.title,
        sheet=sheet,
        linked=linked,
        before=linked[position - 1] if position else None,
        after=linked[position + 1] if position + 1 < len(linked) else None,
        failure=failure,
        body=Markup(soup),
        frames=bool(soup.iframe),
        state=f"{'Failed after' if failure else 'Run in'} {round(seconds) // 60}:{round(seconds) % 60:02}",
        date=today(),
        commit=git_commit(),
    )


def _tidy_page(soup: BeautifulSoup, sheet: Sheet, pages: dict[str, str]) -> None:
    """Make a notebook's HTML readable everywhere: nothing is fetched, headings are in order, tables scroll."""
    for tag in soup(["script", "link", "iframe", "object", "embed", "meta", "base", "form"]):  # they lead elsewhere
        tag.decompose()
    for style in soup.select("style[scoped]"):  # pandas' own styling of tables
        style.decompose()
    for tag in soup.select("[src]"):
        if not tag["src"].startswith("data:image/"):
            tag.replace_with(tag.get("alt") or "(a picture that is not part of this page)")
    for image in soup("img"):
        _tidy_image(image)
    level = 0
    for heading in soup.find_all(re.compile("^h[1-6]$")):
        level = min(max(2, int(heading.name[1])), level + 1) if level else 1
        heading.name = f"h{level}"
    if not level:
        soup.insert(0, _new(soup, "h1", sheet.title))
    for link in soup.select("a[href]"):
        _tidy_link(link, pages)
    for table in soup("table"):
        _tidy_table(soup, table)


def _tidy_image(image: Tag) -> None:
    """Compress a large figure, and tell the browser its size before it is decoded."""
    image["class"] = "figure"
    image["alt"] = image.get("alt") or "figure"
    if image["src"].startswith("data:image/svg"):
        return
    raw = data_of(image["src"])
    picture = Image.open(io.BytesIO(raw), formats=PICTURES)
    if len(raw) > HEAVY and len(smaller := data_uri(picture, WIDEST)) < len(image["src"]):
        image["src"] = smaller
    image["width"], image["height"] = (str(edge) for edge in picture.size)
    if picture.width > WIDE:
        image["class"] = "figure wide"


def _tidy_link(link: Tag, pages: dict[str, str]) -> None:
    """Point links between notebooks to their pages; unlink other files of the project, which a report does not have."""
    if "anchor-link" in link.get("class", []):
        link["aria-label"] = "link to this section"
        return
    address = urlsplit(link["href"])
    if address.scheme or not address.path:
        return
    if page := pages.get(os.path.basename(address.path)):
        link["href"] = page + (f"#{address.fragment}" if address.fragment else "")
    else:
        link.unwrap()


def _tidy_table(soup: BeautifulSoup, table: Tag) -> None:
    """Let a table scroll on its own, mark its headers, and align its numbers."""
    if "results" in table.get("class", []):  # made by `report.tables`, which has done all this
        return
    table.attrs.pop("border", None)
    table.attrs.pop("style", None)
    for head in table.select("th"):
        head["scope"] = "col" if head.find_parent("thead") else "row"
        head.attrs.pop("style", None)
    for row in table.select("tr"):
        row.attrs.pop("style", None)
    for cell in table.select("td"):
        if NUMBER.fullmatch(cell.get_text(strip=True)):
            cell["class"] = [*cell.get("class", []), "number"]
    # A column's header is aligned like its cells.
    rows = table.select("tbody > tr")
    if rows and (heads := table.select("thead > tr")):
        heads, cells = (row.find_all(["th", "td"]) for row in (heads[0], rows[0]))
        for head, cell in zip(heads, cells, strict=True) if len(heads) == len(cells) else ():  # no header spans columns
            if "number" in cell.get("class", []):
                head["class"] = [*head.get("class", []), "number"]
    table.wrap(_new(soup, "div", "", **{"class": "scroll", "tabindex": "0", "role": "region", "aria-label": "table"}))


def _new(soup: BeautifulSoup, name: str, text: str, **attributes: str) -> Tag:
    tag = soup.new_tag(name, attrs=attributes)
    tag.string = text
    return tag


def data_of(address: str) -> bytes:
    """Return the bytes of a base64 data address."""
    return base64.b64decode(address.partition(",")[2])


def data_uri(picture: Image.Image, widest: int) -> str:
    """Return a picture as the data address of a WebP file, at most `widest` pixels wide."""
    if picture.mode == "P":
        picture = picture.convert("RGBA")
    if picture.width > widest:
        picture = picture.resize((widest, round(picture.height * widest / picture.width)), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=86)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _text_of(tag: Tag | None) -> str:
    """Return the text of a tag in one line."""
    return " ".join(tag.get_text().split()) if tag else ""


def today() -> str:
    """Return today's date in UTC, such as ``3 May 2026``."""
    return f"{datetime.now(UTC):%d %B %Y}".lstrip("0")


@cache
def template(name: str = "report.html.j2") -> Template:
    """Return the template that surrounds every page, with its style sheet; or another template."""
    folder = Path(__file__).parent / "templates"
    environment = Environment(loader=FileSystemLoader(folder), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.globals["css"] = Markup((folder / "report.css").read_text(encoding="utf-8"))
    # Only the page's own script is allowed, by its hash: no script or event handler from a notebook's outputs runs.
    script = (folder / "report.js").read_text(encoding="utf-8")
    environment.globals["script"] = Markup(script)
    environment.globals["script_sum"] = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(name)
