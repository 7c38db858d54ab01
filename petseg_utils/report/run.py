"""Run the numbered notebooks, and either make a report of them or keep their outputs in the files."""

import asyncio
import contextlib
import dataclasses
import json
import os
import re
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import zmq
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode
from tqdm import tqdm
from traitlets import default

from petseg_utils.report.index import render_index
from petseg_utils.report.pages import Sheet, TryPage, read_sheet, render_page
from petseg_utils.study import IS_CHECKOUT, ROOT, STUDIES, PetsegError, Study, load_study, shown, write_text
from petseg_utils.study.folders import alone_in
from petseg_utils.study.paths import OUTPUTS

ENDING = (signal.SIGINT, signal.SIGTERM)
ELSEWHERE = "run this one in another copy of the project"
_WIDGET = "application/vnd.jupyter.widget-view+json"
_BAR = re.compile(r"\d+%\|.*\||\d+it \[")  # what tqdm prints, with and without a known total
_PLACE = re.compile(r"(?<![\w.:/<~-])~?(?:/[\w.@+-]+){2,}")


@dataclass(frozen=True)
class Failure:
    """A notebook that did not run to the end.

    Parameters
    ----------
    notebook : str
        The file's name without its ending.
    cell : int
        Which code cell failed, counted from 1 as in ``In [1]``.
    error : str
        Kind and message in one line.
    """

    notebook: str
    cell: int
    error: str

    def __str__(self) -> str:
        return f"{self.notebook}, code cell {self.cell}: {self.error}"


class _OwnKernel(AsyncKernelManager):
    """Start the interpreter that runs this code, whichever kernels are registered on the machine."""

    @default("transport_encryption")
    def _encrypt_if_possible(self) -> str:
        return "auto" if zmq.has("curve") else "disabled"  # kernels warn if it is available but not used

    @property
    def kernel_spec(self) -> KernelSpec:
        return KernelSpec(**get_kernel_dict())  # its command starts with sys.executable


def build_report(
    study: Study,
    *,
    only: list[str] | None = None,
    notebooks: Path | None = None,
    out: Path | None = None,
    write_page: Callable[[Path], object] | None = None,
) -> list[Failure]:
    """Run notebooks and write a page for each, and an index.

    Pages are written as soon as they are done, so an interrupted run leaves those it finished.  A notebook that fails
    gets its page too, showing the error, and the next ones still run.

    Parameters
    ----------
    only : list of str, optional
        Numbers of the notebooks to run, such as ``["02", "03"]``; the index then still links the other pages.
    notebooks, out : Path, optional
        Where the notebooks are, and where pages go; see `notebook_folder` and `report_folder`.
    write_page : callable, optional
        Writes the page on which readers try the models on their own photos, see `apps.web_page`, into a given file.
        It appears in a frame in place of a cell tagged `pages.TRY_TAG`.  If it raises a `PetsegError`, pages say so.

    Returns
    -------
    list of Failure
        Empty if all went well.

    Raises
    ------
    PetsegError
        If there are no notebooks, or none with a number in `only`; if the pages cannot be written; or if another run
        writes there.
    """
    out = out or report_folder(study)
    sheets = _find(notebooks or notebook_folder())
    chosen = _choose(sheets, only)
    try:
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()  # fails before hours of work, not after them
    except OSError as error:
        raise PetsegError(
            f"Could not write to {shown(out)} ({error.strerror}): make room there, or run a copy of the project that "
            "may be written."
        ) from error
    linked = [sheet for sheet in sheets if sheet in chosen or (out / f"{sheet.name}.html").is_file()]
    failures: list[Failure] = []
    seconds: dict[str, float] = {}
    with alone_in(out, "petseg report", ELSEWHERE):
        for part in out.glob("*.part"):  # left by a run that was killed
            part.unlink()
        try_it = _write_try_page(write_page, out)
        for sheet, bar in _with_bar(chosen):
            began = time.monotonic()
            book, failure = _execute(sheet, study, bar)
            seconds[sheet.name] = time.monotonic() - began
            failures += [failure] if failure else []
            page = render_page(study, book, sheet, linked, failure, seconds[sheet.name], try_it)
            write_text(out / f"{sheet.name}.html", page)
            write_text(out / "index.html", render_index(study, sheets, out, seconds, try_it))
    return failures


def _write_try_page(write_page: Callable[[Path], object] | None, out: Path) -> TryPage | None:
    """Write the page for one's own photos, if there is one to write; return what became of it."""
    if write_page is None:
        return None
    path = out / "try.html"
    try:
        write_page(path)
    except PetsegError as error:
        path.unlink(missing_ok=True)  # left by an earlier report
        return TryPage(None, str(error))
    return TryPage(path.name)


def execute_in_place(study: Study, *, only: list[str] | None = None, notebooks: Path | None = None) -> list[Failure]:
    """Run notebooks and keep their outputs in the files, without timings, progress bars, paths or kernel details.

    Parameters and errors are those of `build_report`.

    Returns
    -------
    list of Failure
        Notebooks that failed; their files are left as they were.
    """
    failures, folder = [], notebooks or notebook_folder()
    sheets = _choose(_find(folder), only)
    with alone_in(folder, "petseg report", ELSEWHERE):
        for sheet, bar in _with_bar(sheets):
            book, failure = _execute(sheet, study, bar)
            if failure:
                failures.append(failure)
                continue
            for cell in _code_cells(book):
                cell.metadata.pop("execution", None)
                # What is left on stderr are warnings of this machine's libraries, with their versions and line numbers.
                cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            book.metadata.pop("widgets", None)
            book.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
            book.metadata["language_info"] = {"name": "python"}
            part = sheet.path.with_name(sheet.path.name + ".part")
            nbformat.write(book, part)
            part.replace(sheet.path)
    return failures


def report_folder(study: Study) -> Path:
    """Return the folder of a study's pages."""
    return OUTPUTS / "reports" / study.name


def notebook_folder() -> Path:
    """Return where the notebooks are: in this checkout, or for an installed package in the current ``notebooks/``.

    Raises
    ------
    PetsegError
        If the package is installed and the current folder has no notebooks.
    """
    if IS_CHECKOUT:
        return ROOT / "notebooks"
    here = Path.cwd() / "notebooks"
    if not _numbered(here):
        raise PetsegError(
            "The notebooks are not part of the installed package, but of the project's repository: "
            "run petseg report in a checkout of it."
        )
    return here


def _numbered(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.ipynb") if re.match(r"\d+_", path.name))


def _find(folder: Path) -> list[Sheet]:
    """Return the numbered notebooks of a folder, in order."""
    paths = _numbered(folder)
    if not paths:
        raise PetsegError(f"No numbered notebooks, such as 01_data.ipynb, in {shown(folder)}.")
    return [read_sheet(path) for path in paths]


def _choose(sheets: list[Sheet], only: list[str] | None) -> list[Sheet]:
    """Return the sheets with the requested numbers; by default all of them."""
    known = {sheet.number for sheet in sheets}
    wanted = known if only is None else {number.zfill(2) for number in only}
    if unknown := sorted(wanted - known):
        raise PetsegError(f"No notebook {unknown[0]}. There are {', '.join(sorted(known))}.")
    return [sheet for sheet in sheets if sheet.number in wanted]


def _with_bar(sheets: list[Sheet]) -> Iterator[tuple[Sheet, tqdm]]:
    """Yield each notebook with the progress bar that says which one is running."""
    with tqdm(sheets, unit="notebook") as bar:
        for sheet in sheets:
            bar.set_description(sheet.name)
            yield sheet, bar
            bar.update()


def _execute(sheet: Sheet, study: Study, bar: tqdm) -> tuple[NotebookNode, Failure | None]:
    """Run a copy of a notebook in its folder; tidy its outputs, and return its first error."""
    book = nbformat.read(sheet.path, as_version=4)
    for cell in _code_cells(book):  # outputs of another run must not stay below a cell that does not run now
        cell.outputs, cell.execution_count = [], None
    running = {"cell": book.cells[0] if book.cells else NotebookNode()}

    def started(cell: NotebookNode, cell_index: int) -> None:
        _end_by_signals()
        running["cell"] = cell
        bar.set_postfix_str(f"cell {cell_index + 1} of {len(book.cells)}")

    client = NotebookClient(
        book,
        timeout=None,
        kernel_name="python3",
        kernel_manager_class=_OwnKernel,
        coalesce_streams=True,
        record_timing=False,
        resources={"metadata": {"path": str(sheet.path.parent.resolve())}},
        on_cell_start=started,
    )
    error = None
    with tempfile.TemporaryDirectory() as scratch, _own_signals():
        try:
            client.execute(env=_environment(study, Path(scratch)))
        except CellExecutionError as failed:
            error = f"{failed.ename}: {failed.evalue}"
        except DeadKernelError:
            error = "DeadKernelError: Python ended while this cell ran; often memory ran out"
            output = nbformat.v4.new_output("error", ename="", evalue="", traceback=[error])
            running["cell"].outputs.append(output)
        except KeyboardInterrupt:
            client.shutdown_kernel = "immediate"  # as this process ends too; an orderly shutdown would print errors
            raise
    for cell in _code_cells(book):
        cell.outputs = _tidy(cell.outputs)
    if error is None:
        return book, None
    running["cell"].metadata["failed"] = True
    number = next(index for index, cell in enumerate(_code_cells(book), 1) if cell is running["cell"])
    return book, Failure(sheet.name, number, " ".join(_without_places(error).split())[:300])


def _end_by_signals() -> None:
    """Let Ctrl-C and SIGTERM end this process; with nbclient's handlers they end one kernel, and the next would run."""
    with contextlib.suppress(RuntimeError):  # its handlers cannot exist outside the main thread and on Windows
        for number in ENDING:
            if asyncio.get_running_loop().remove_signal_handler(number):
                signal.signal(number, signal.default_int_handler)


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Restore afterwards what this process does on Ctrl-C and SIGTERM."""
    before = {number: signal.getsignal(number) for number in ENDING}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


def _code_cells(book: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in book.cells if cell.cell_type == "code"]


def _environment(study: Study, scratch: Path) -> dict[str, str]:
    """Return the environment of a kernel that reads the same study; its paths are absolute, as it runs elsewhere."""
    places = {
        "PETSEG_DATA": None if study.draws_its_data else study.data_dir,
        "PETSEG_RUNS": study.runs_dir.parent,
        "PETSEG_FIGURES": None if study.figures_dir == study.runs_dir / "figures" else study.figures_dir.parent,
        "PETSEG_UNLABELLED": study.unlabelled_dir,
        "PETSEG_OOD": study.elsewhere_dir,
    }
    env = {key: value for key, value in os.environ.items() if key not in places}
    env |= {key: str(place) for key, place in places.items() if place}
    env["PETSEG_STUDY"] = _study_name(study, scratch)
    # Two warnings that say nothing about the study: frozen modules cannot be debugged; tqdm finds no widgets to draw.
    env["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    env["PYTHONWARNINGS"] = ",".join(filter(None, [env.get("PYTHONWARNINGS"), "ignore:IProgress not found"]))
    return env


def _study_name(study: Study, scratch: Path) -> str:
    """Return the study's name if it ships; else the path of a file that says the same."""
    if (STUDIES / f"{study.name}.toml").is_file() and _settings(load_study(study.name)) == _settings(study):
        return study.name
    path = scratch / f"{study.name}.toml"
    path.write_text("\n".join(_toml_lines(_settings(study))) + "\n", encoding="utf-8")
    return str(path)


def _settings(study: Study) -> dict[str, Any]:
    """Return what a study's file says, without its name and its folders."""
    values = dataclasses.asdict(study)
    places = {key for key, value in values.items() if isinstance(value, Path) or value is None}
    return {
        key: value for key, value in values.items() if key not in places | {"name", "draws_its_data", "on_other_data"}
    }


def _toml_lines(values: dict[str, Any], table: str = "") -> list[str]:
    """Write numbers, strings, lists of them, and tables of these, as TOML."""
    # Everything except tables looks the same in JSON.
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items() if not isinstance(value, dict)]
    for key, inner in values.items():
        if isinstance(inner, dict):
            name = f"{table}.{key}" if table else key
            lines += [f"[{name}]", *_toml_lines(inner, name)]
    return lines


def _tidy(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Remove progress bars and paths of this machine from outputs."""
    kept = []
    for output in outputs:
        data = output.get("data", {})
        if _WIDGET in data:
            del data[_WIDGET]
            if _BAR.search(data.get("text/plain", "")) or "HBox(" in data.get("text/plain", ""):
                continue
        if output.get("name") == "stderr":
            lines = [line.rsplit("\r", 1)[-1] for line in output.text.splitlines()]
            output.text = "\n".join(line for line in lines if line.strip() and not _BAR.search(line))
            if not output.text:
                continue
        for key, value in data.items():
            if isinstance(value, str) and not key.startswith("image/"):
                data[key] = _without_places(value)
        if "text" in output:
            output.text = _without_places(output.text)
        if "traceback" in output:
            output.traceback = [_without_places(line) for line in output.traceback]
            output.evalue = _without_places(output.evalue)
        kept.append(output)
    return kept


def _without_places(text: str) -> str:
    """Return a text in which paths of this machine are made relative to the project, or reduced to the file's name."""

    def shorten(match: re.Match) -> str:
        path = Path(os.path.expanduser(match[0]))
        if path == home:
            return "~"  # the path's last part is the user's name
        return shown(path) if Path(*path.parts[:2]).exists() else match[0]

    home = Path(os.path.expanduser("~"))  # unchanged if there is none

    # First literally, as the pattern ends at a space and these folders may have one in their names; in both spellings,
    # as Windows uses backslashes.
    for folder, short in ((ROOT, ""), (home, "~/")):
        for written in (str(folder), folder.as_posix()):
            text = re.sub(rf"{re.escape(written)}[\\/]", short, text)
    return _PLACE.sub(shorten, text)
