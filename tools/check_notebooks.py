"""Are the notebooks fit to be committed?  `make lint`, `make test` and the hook before a commit ask this."""

import json
import re
import sys
from pathlib import Path

import nbformat

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
# A place on one machine: outputs must read the same wherever they were made.
MACHINES_PATH = re.compile(r"(?<![\w.~$}])(/(root|work|tmp|home/\w+|Users/\w+)/|[A-Z]:\\\\+Users\b)")


def faults(notebook: nbformat.NotebookNode) -> list[str]:
    """What is wrong with an executed notebook, a line each; nothing where all is well.

    Its code cells must have run once, from top to bottom, without an error, no output may name a machine's path, and
    links within it must lead to a heading.
    """
    cells = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    counts = [cell.execution_count for cell in cells]
    lines = []
    if counts != list(range(1, len(cells) + 1)):
        lines.append(f"its cells ran in the order {counts}, not from top to bottom")
    for number, cell in enumerate(cells, start=1):
        for output in cell.outputs:
            if output.output_type == "error":
                lines.append(f"code cell {number} failed: {output.ename}: {output.evalue}")
            elif path := MACHINES_PATH.search(json.dumps(output, ensure_ascii=False)):
                lines.append(f"code cell {number} shows a path of one machine: {path[0]}")
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    headings = {heading.strip().replace(" ", "-") for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}
    lines += [f"a link leads to no heading: #{to}" for to in re.findall(r"\]\(#([^)]*)\)", text) if to not in headings]
    return lines


def main(paths: list[Path]) -> int:
    """Print the faults of some notebooks; 1 if there are any."""
    lines = [f"{path.name}: {fault}" for path in paths for fault in faults(nbformat.read(path, as_version=4))]
    print("\n".join(lines) or f"Notebooks in order: {len(paths)}.")
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main([Path(name) for name in sys.argv[1:]] or sorted(NOTEBOOKS.glob("*.ipynb"))))
