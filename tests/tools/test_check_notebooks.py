"""The check of notebooks sees what must not be committed."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools.check_notebooks import FOLDED, NOTEBOOKS, faults, main


def executed(*texts: str) -> nbformat.NotebookNode:
    """A notebook with a code cell for each text that it printed, prose between them, and two exercises."""
    book = new_notebook(cells=[new_markdown_cell("# A question")])
    for text in texts:
        book.cells += [new_code_cell("print()", outputs=[new_output("stream", text=text)]), new_markdown_cell("Words.")]
    book.cells.append(new_markdown_cell("## Exercises"))
    for number in (1, 2):
        solution = new_code_cell("pass", metadata={"tags": ["solution"], "jupyter": FOLDED})
        book.cells += [new_markdown_cell(f"### Exercise {number}\n\nWhy?"), solution]
    for count, cell in enumerate((cell for cell in book.cells if cell.cell_type == "code"), start=1):
        cell.execution_count = count
    return book


def test_the_committed_notebooks_are_in_order(capsys):
    paths = sorted(NOTEBOOKS.glob("*.ipynb"))
    assert main(paths) == 0 and capsys.readouterr().out == f"Notebooks in order: {len(paths)}.\n"


def test_cells_must_have_run_once_from_top_to_bottom():
    notebook = executed("a", "b", "c")
    assert faults(notebook) == []
    notebook.cells.append(new_code_cell(""))  # an empty cell does not run
    assert faults(notebook) == []
    for counts in ([2, 3, 4], [1, 3, 2], [1, None, 2]):
        for cell, count in zip(notebook.cells[1:7:2], counts, strict=True):
            cell.execution_count = count
        assert "not from top to bottom" in faults(notebook)[0]


@pytest.mark.parametrize("place", ["/home/somebody", "/Users/somebody", "/root", "/tmp", "C:\\Users\\somebody"])
def test_no_output_names_a_machines_path(place, tmp_path, capsys):
    notebook = executed("runs/sample", f"File {place}/petseg/x.py")
    assert len(faults(notebook)) == 1 and "code cell 2 shows a path" in faults(notebook)[0]
    nbformat.write(notebook, tmp_path / "bad.ipynb")
    assert main([tmp_path / "bad.ipynb"]) == 1 and "bad.ipynb: code cell 2" in capsys.readouterr().out


def test_no_cell_ended_in_an_error():
    notebook = executed("a")
    notebook.cells[1].outputs = [new_output("error", ename="ValueError", evalue="too small", traceback=[])]
    assert faults(notebook) == ["code cell 1 failed: ValueError: too small"]


@pytest.fixture
def notebook() -> nbformat.NotebookNode:
    return executed("a", "b")


def test_links_lead_to_headings_and_files(notebook, tmp_path):
    other = new_notebook(cells=[new_markdown_cell("# More\n\n## On real photos")])
    nbformat.write(other, tmp_path / "02.ipynb")
    links = "[photos](#On-photos), [more](02.ipynb#On-real-photos), [out](https://example.org#x) and `a[1](b)`"
    notebook.cells[0].source = f"# A question\n\n## On photos\n\nSee {links}."
    assert faults(notebook, tmp_path) == []
    notebook.cells[0].source = notebook.cells[0].source.replace("## On photos", "## On pictures")
    assert faults(notebook, tmp_path) == ["a link leads to no heading: #On-photos"]
    notebook.cells[0].source = "# A question\n\n[a](02.ipynb#Photos) [b](03.ipynb)"
    assert faults(notebook, tmp_path) == [
        "a link leads to no heading: 02.ipynb#Photos",
        "a link leads to no file: 03.ipynb",
    ]


def test_links_that_a_cell_says_are_followed_and_code_that_it_shows_is_none(notebook, tmp_path):
    said = notebook.cells[1].outputs
    said[:] = [new_output("display_data", {"text/markdown": "```python\nblocks[0](images)\n```"})]
    assert faults(notebook, tmp_path) == []
    said[:] = [new_output("display_data", {"text/markdown": "See [there](nowhere.ipynb)."})]
    assert faults(notebook, tmp_path) == ["a link leads to no file: nowhere.ipynb"]


@pytest.mark.parametrize("headings", ["# A question\n\n### Deep", "## A question", "# A question\n\n# Another"])
def test_headings_stand_in_order(notebook, headings):
    notebook.cells[0].source = headings
    assert "is of level" in faults(notebook)[0]


def test_every_picture_has_alternative_text(notebook):
    picture = new_output("display_data", {"image/png": "iVBO"}, metadata={"image/png": {"alt": "A cat."}})
    notebook.cells[1].outputs = [picture]
    notebook.cells[2].source = "![A cat](https://example.org/cat.png)"
    assert faults(notebook) == []
    del picture.metadata["image/png"]
    notebook.cells[2].source = "![](https://example.org/cat.png)"
    assert faults(notebook) == [
        "code cell 1 shows a picture without alternative text",
        "a picture has no alternative text: https://example.org/cat.png",
    ]


def test_notebooks_stay_short_and_explain_themselves(notebook):
    notebook.cells += [new_markdown_cell("Words.")] * 37  # two solutions do not count: 45 cells
    assert faults(notebook) == []
    notebook.cells += [new_markdown_cell("Words.")]
    assert faults(notebook) == ["46 cells besides its solutions, 45 at most"]
    code = executed(*"abcdef")
    code.cells = [cell for cell in code.cells if cell.source != "Words."]
    assert faults(code) == ["fewer than half of its cells are Markdown"]
    notebook = executed("a")
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        cell.source = "\n".join(["pass"] * 41)
    assert [fault.split(" at the ")[1] for fault in faults(notebook)] == [
        "median, 6 at most",
        "90th percentile, 20 at most",
        "longest, 40 at most",
    ]


def test_exercises_have_folded_solutions(notebook):
    *_, last, solution = notebook.cells
    solution.metadata["jupyter"] = {"source_hidden": True}
    assert "the solution 'pass' is not folded" in faults(notebook)[0]
    solution.metadata = {"tags": []}
    assert faults(notebook) == ["exercise 2 is not followed by a code cell with the tag 'solution'"]
    last.source = "Words."
    assert "its exercises have the numbers [1]" in faults(notebook)[0]
