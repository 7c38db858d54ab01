"""The check of notebooks sees what must not be committed."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools.check_notebooks import NOTEBOOKS, faults, main


def executed(*texts: str) -> nbformat.NotebookNode:
    """A notebook with a code cell for each text that it printed."""
    cells = [
        new_code_cell("print()", execution_count=number, outputs=[new_output("stream", text=text)])
        for number, text in enumerate(texts, start=1)
    ]
    return new_notebook(cells=[new_markdown_cell("# A question"), *cells])


def test_the_committed_notebooks_are_in_order(capsys):
    paths = sorted(NOTEBOOKS.glob("*.ipynb"))
    assert main(paths) == 0 and capsys.readouterr().out == f"Notebooks in order: {len(paths)}.\n"


def test_cells_must_have_run_once_from_top_to_bottom():
    notebook = executed("a", "b", "c")
    assert faults(notebook) == []
    notebook.cells.append(new_code_cell(""))  # an empty cell does not run
    assert faults(notebook) == []
    for counts in ([2, 3, 4], [1, 3, 2], [1, None, 2]):
        for cell, count in zip(notebook.cells[1:4], counts, strict=True):
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


def test_links_within_a_notebook_lead_to_its_headings():
    notebook = executed("a")
    notebook.cells[
        0
    ].source = "# A question\n\n## On real photos\n\nSee [photos](#On-real-photos) and [more](02.ipynb#x)."
    assert faults(notebook) == []
    notebook.cells[0].source = notebook.cells[0].source.replace("## On real photos", "## On photos")
    assert faults(notebook) == ["a link leads to no heading: #On-real-photos"]
