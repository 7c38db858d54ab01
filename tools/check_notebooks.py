"""Check whether the notebooks are fit to be committed, for `make lint`, `make test` and the pre-commit hook."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
from bs4 import BeautifulSoup
from nbconvert.filters import markdown2html

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
# A path of one machine: outputs must be the same wherever they were made.
MACHINES_PATH = re.compile(r"(?<![\w.~$}])(/(root|work|tmp|home/\w+|Users/\w+)/|[A-Z]:\\\\+Users\b)")

HEADINGS = re.compile("^h[1-6]$")
CELLS = 45  # not counting solutions, which readers need not open
CODE_LINES = (("median", 0.5, 6), ("90th percentile", 0.9, 20), ("longest", 1.0, 40))
FOLDED = {"source_hidden": True, "outputs_hidden": True}  # how JupyterLab opens a solution's cell


def faults(notebook: nbformat.NotebookNode, folder: Path = NOTEBOOKS) -> list[str]:
    """Return what is wrong with an executed notebook, one line each; an empty list if all is well.

    Parameters
    ----------
    notebook : NotebookNode
        The notebook as read from its file.
    folder : Path
        The notebook's folder: relative links start there.
    """
    return [
        *_wrong_runs(notebook),
        *_wrong_texts(notebook, folder),
        *_wrong_lengths(notebook),
        *_wrong_exercises(notebook),
    ]


def _wrong_runs(notebook: nbformat.NotebookNode) -> Iterator[str]:
    """Yield code cells that did not run once, in order and without an error, and outputs that name a machine's path."""
    cells = _code(notebook)
    counts = [cell.execution_count for cell in cells]
    if counts != list(range(1, len(cells) + 1)):
        yield f"its cells ran in the order {counts}, not from top to bottom"
    for number, cell in enumerate(cells, start=1):
        for output in cell.outputs:
            if output.output_type == "error":
                yield f"code cell {number} failed: {output.ename}: {output.evalue}"
            elif path := MACHINES_PATH.search(json.dumps(output, ensure_ascii=False)):
                yield f"code cell {number} shows a path of one machine: {path[0]}"
            if "image/png" in output.get("data", {}) and not output.metadata.get("image/png", {}).get("alt"):
                yield f"code cell {number} shows a picture without alternative text"


def _wrong_texts(notebook: nbformat.NotebookNode, folder: Path) -> Iterator[str]:
    """Yield headings out of order, links that lead nowhere, and pictures without alternative text."""
    page = _page(notebook)
    before = 0
    for heading in page.find_all(HEADINGS):
        level = int(heading.name[1])
        if level > before + 1 or (level == 1) != (before == 0):
            yield f"heading {heading.get_text()!r} is of level {level}, after one of level {before}"
        before = level
    for picture in page.find_all("img"):
        if not picture.get("alt"):
            yield f"a picture has no alternative text: {picture.get('src')}"
    for link in page.select("a[href]"):
        address = urlsplit(link["href"])
        if address.scheme:
            continue  # the network is not used
        if address.path and not (folder / address.path).is_file():
            yield f"a link leads to no file: {link['href']}"
        elif address.fragment:
            other = _page(nbformat.read(folder / address.path, as_version=4)) if address.path else page
            if not other.find(HEADINGS, id=unquote(address.fragment)):
                yield f"a link leads to no heading: {link['href']}"


def _wrong_lengths(notebook: nbformat.NotebookNode) -> Iterator[str]:
    """Report too many cells, too little prose, or too much code in a cell."""
    cells = [cell for cell in notebook.cells if not _is_solution(cell)]
    if len(cells) > CELLS:
        yield f"{len(cells)} cells besides its solutions, {CELLS} at most"
    if 2 * sum(cell.cell_type == "markdown" for cell in notebook.cells) < len(notebook.cells):
        yield "fewer than half of its cells are Markdown"
    lines = sorted(len(cell.source.strip().splitlines()) for cell in _code(notebook)) or [0]
    for name, share, most in CODE_LINES:
        length = lines[min(len(lines) - 1, int(share * len(lines)))]
        if length > most:
            yield f"its code cells have {length} lines at the {name}, {most} at most"


def _wrong_exercises(notebook: nbformat.NotebookNode) -> Iterator[str]:
    """Check the exercises: two or three, numbered, each followed by its solution, which is folded and was run."""
    numbers = []
    for cell, following in zip(notebook.cells, [*notebook.cells[1:], None], strict=True):
        if number := re.search(r"^### Exercise (\d+)\b", cell.source, re.MULTILINE):
            numbers.append(int(number[1]))
            if following is None or not _is_solution(following):
                yield f"exercise {number[1]} is not followed by a code cell with the tag 'solution'"
        if _is_solution(cell) and cell.metadata.get("jupyter") != FOLDED:
            yield f"the solution {cell.source.splitlines()[0]!r} is not folded: its metadata need jupyter = {FOLDED}"
    if numbers not in ([1, 2], [1, 2, 3]):
        yield f"its exercises have the numbers {numbers}; there must be two or three, numbered from 1"


def _code(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def _is_solution(cell: nbformat.NotebookNode) -> bool:
    return cell.cell_type == "code" and "solution" in cell.metadata.get("tags", [])


def _page(notebook: nbformat.NotebookNode) -> BeautifulSoup:
    """Return the prose as HTML: the Markdown cells, and the Markdown output of code cells."""
    texts = []
    for cell in notebook.cells:
        outputs = [output.get("data", {}) for output in cell.get("outputs", [])]
        texts += [cell.source] if cell.cell_type == "markdown" else [data.get("text/markdown", "") for data in outputs]
    page = BeautifulSoup(markdown2html("\n\n".join(texts)), "html.parser")
    for link in page.select(".anchor-link"):  # which link each heading to itself
        link.decompose()
    return page


def main(paths: list[Path]) -> int:
    """Print the faults of some notebooks; return 1 if there are any."""
    lines = [
        f"{path.name}: {fault}" for path in paths for fault in faults(nbformat.read(path, as_version=4), path.parent)
    ]
    print("\n".join(lines) or f"Notebooks in order: {len(paths)}.")
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main([Path(name) for name in sys.argv[1:]] or sorted(NOTEBOOKS.glob("*.ipynb"))))
