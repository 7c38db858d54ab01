"""Reports: pages of small notebooks, made and run here."""

import base64
import io
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path, PureWindowsPath

import nbformat
import numpy as np
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image
from typer.testing import CliRunner

from petseg_utils.apps.cli.main import app
from petseg_utils.report import run
from petseg_utils.report.pages import Sheet, read_sheet, render_page
from petseg_utils.report.run import Failure, _environment, _without_places, build_report, execute_in_place
from petseg_utils.scores.intervals import summarise
from petseg_utils.scores.metrics import PROTOCOLS, boundary_counts, picture_confusions
from petseg_utils.scores.records import append_records
from petseg_utils.study import ROOT, STUDIES, PetsegError, load_study
from petseg_utils.study.folders import alone_in

LOOK = """
import json, os, sys
from petseg_utils.study import load_study
study = load_study()
seen = {"python": sys.executable, "folder": os.getcwd()}
seen |= {"title": study.title, "rate": study.models["unet"].learning_rate}
open("seen.json", "w").write(json.dumps(seen))
"""
SHOW = """
import sys
import pandas as pd
from IPython.display import HTML, Image, display
png = open("dot.png", "rb").read()
display(Image(png), metadata={"image/png": {"alt": "A dot that was described"}})
print("progress 50%|#####     | 5/10", file=sys.stderr)
display(HTML('<script src="https://example.org/a.js"></script>'))
display(pd.DataFrame({"score": [0.5], "verdict": ["good"]}, index=["unet"]))
display(HTML('<img src="https://example.org/a.png">'))
"""
BARE = 'display(Image(png)); display(Image(filename="large.png")); print(os.path.abspath("dot.png"))'

SOLUTION = "#? Six times seven.\nprint(6 * 7)"

LAST = 'from IPython.display import Image; Image("dot.png", alt="The last word")'


def write_notebook(path: Path, title: str, *cells: str) -> None:
    """Cells that start with ``#:`` are prose, without these two characters; with ``#?`` they are solutions."""
    made = [new_markdown_cell(cell[2:]) if cell.startswith("#:") else new_code_cell(cell) for cell in cells]
    for cell in made:
        if cell.source.startswith("#?"):
            cell.metadata["tags"] = ["solution"]
    nbformat.write(new_notebook(cells=[new_markdown_cell(f"# {title}"), *made]), path)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Notebooks, a study that does not ship, its records, and a report of all of them."""
    folder = tmp_path_factory.mktemp("project")
    books, out = folder / "notebooks", folder / "out"
    books.mkdir()
    Image.new("RGB", (8, 6), "white").save(books / "dot.png")
    noise = np.random.default_rng(0).integers(0, 255, (400, 600, 3), dtype=np.uint8)
    Image.fromarray(noise).save(books / "large.png")
    links = "See [the next](02_bad.ipynb#x), [a file](../README.md), [a paper](https://example.org)."
    opening = f"#:> Is it *right*?\n\n{links}\n\n#### Deep"
    write_notebook(books / "01_good.ipynb", "First", opening, LOOK, SHOW, "#:Words.", BARE, SOLUTION)
    write_notebook(books / "02_bad.ipynb", "Second", "print('before')", "1 / 0", "print('never')")
    write_notebook(books / "03_results.ipynb", "Third", "#:A paragraph that asks.", "print('still here')", LAST)
    text = (STUDIES / "smoke.toml").read_text().replace("Smoke test", "Study of a test")
    (folder / "mine.toml").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PETSEG_RUNS", str(folder / "runs"))
        study = load_study(str(folder / "mine.toml"))
        append_records(study.runs_dir / "records.jsonl", make_records())
        failures = build_report(study, notebooks=books, out=out)
        yield {"study": study, "books": books, "out": out, "failures": failures}


def make_records() -> list[dict]:
    """Records of one model with one seed and of another with two, as `records.make_records` writes them."""
    rng = np.random.default_rng(0)
    records = []
    for model, seed in (("unet", 0), ("other", 0), ("other", 1)):
        labels, classes = rng.integers(0, 3, (2, 6, 16, 16), dtype=np.uint8)
        counts = picture_confusions(labels, classes)
        for protocol in PROTOCOLS:
            scores = summarise(counts, protocol, boundary_counts(labels, classes, protocol), 20)
            run = {"model": model, "encoder": None if model == "unet" else "an encoder", "study": "mine", "seed": seed}
            run |= {
                "split": "test",
                "subset": "all",
                "protocol": protocol,
                "data": "f00d",
                "n_images": 6,
                "n_breeds": 2,
            }
            run |= {
                "trained_on": {"n_images": 24, "settings": {"epochs": 5}},
                "parameters": {"trained": 1, "total": 2},
                "device": "cpu",
            }
            run |= {"training_seconds": 83.0, "seconds_per_picture": 0.0214}
            run |= {"machine": "Linux", "commit": "c0ffee"}
            records.append(run | {"test_loss": 1.0, "scores": scores})
    return records


def soup(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def pages(project) -> dict[str, BeautifulSoup]:
    return {path.stem: soup(path) for path in sorted(project["out"].glob("*.html"))}


def test_every_notebook_gets_a_page_and_the_index_links_them(project):
    rendered = pages(project)
    assert list(rendered) == ["01_good", "02_bad", "03_results", "index"]
    cards = rendered["index"].select(".card")
    assert [card.a["href"] for card in cards] == ["01_good.html", "02_bad.html", "03_results.html"]
    assert [card.h3.get_text() for card in cards] == ["First", "Second", "Third"]
    assert cards[0].p.get_text() == "Is it right?" and cards[2].p.get_text() == "A paragraph that asks."
    assert re.fullmatch(r"done in \d+ (s|min)", cards[0].select_one(".state").get_text())
    assert rendered["01_good"].select_one("a[rel=next]")["href"] == "02_bad.html"
    assert rendered["02_bad"].select_one("a[rel=prev]")["href"] == "01_good.html"
    assert all(page.select_one("a[href='index.html']") for page in rendered.values())


def test_a_failure_is_returned_and_shown_and_the_next_notebook_runs(project):
    assert project["failures"] == [Failure("02_bad", 2, "ZeroDivisionError: division by zero")]
    assert str(project["failures"][0]) == "02_bad, code cell 2: ZeroDivisionError: division by zero"
    page = pages(project)["02_bad"]
    assert "failed in code cell 2" in page.select_one(".banner").get_text()
    assert "1 / 0" in page.select_one("details#failed[open]").get_text()
    assert "ZeroDivisionError" in page.select_one(".output_error").get_text()
    shown = [output.get_text(strip=True) for output in page.select(".output_stdout")]
    assert shown == ["before"]
    assert "FAILED" in pages(project)["index"].select(".card")[1].get_text()
    assert "still here" in pages(project)["03_results"].get_text()


def test_pages_fetch_nothing(project):
    for page in pages(project).values():
        assert "default-src 'none'" in page.select_one("meta[http-equiv=Content-Security-Policy]")["content"]
        assert all(tag["src"].startswith("data:image/") for tag in page.select("[src]"))
        assert all(tag["href"] == "data:," for tag in page.select("link"))
        assert not [script for script in page.select("script") if script.has_attr("src")]
        assert not re.search(r"url\(|@import", "".join(style.get_text() for style in page.select("style")))


ATTACKS = (
    "<script>document.title = 'taken'</script>",
    "<img src=x onerror=\"document.title = 'taken'\">",
    "<svg onload=\"document.title = 'taken'\"><script>document.title = 'taken'</script></svg>",
    "<details open ontoggle=\"document.title = 'taken'\">x</details>",
    "<a href=\"javascript:document.title = 'taken'\" id=trap>a link</a>",
    "<base href=https://example.org/><form action=https://example.org/><button id=send>send</button></form>",
    '<meta http-equiv=refresh content="0; url=https://example.org/">',
    "<style>body { background: url(https://example.org/x.png) }</style>",
)


def test_html_in_outputs_prose_and_names_does_nothing(browser, study, tmp_path):
    """A cell's output shows what it is told to, photos' names among it."""
    outputs = [new_output("display_data", {"text/html": attack, "text/plain": attack}) for attack in ATTACKS]
    outputs += [new_output("stream", name="stdout", text=f"cat{attack}.jpg") for attack in ATTACKS]
    cells = [new_code_cell("show()", outputs=outputs), *map(new_markdown_cell, ATTACKS)]
    sheet = Sheet(tmp_path / f"01_{ATTACKS[1].replace('/', '')}.ipynb", ATTACKS[1], ATTACKS[2])
    failure = Failure(sheet.name, 1, ATTACKS[1])
    asked, blocked = [], []
    page = browser.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.on("requestfailed", lambda request: blocked.append(request.url) if "csp" in request.failure else None)
    path = tmp_path / "page.html"
    path.write_text(render_page(study, new_notebook(cells=cells), sheet, [sheet], failure, 1.0), encoding="utf-8")
    page.goto(path.as_uri())
    title = page.title()
    page.evaluate("for (const trap of document.querySelectorAll('#trap, #send')) trap.click()")
    page.wait_for_timeout(300)
    assert page.title() == title and "taken" not in title.removeprefix(ATTACKS[1]) and page.url == path.as_uri()
    assert [url for url in asked if url not in blocked and not url.startswith("data:")] == [path.as_uri()]
    assert "cat<script>" in page.inner_text("main")
    page.close()


def test_the_pages_own_script_still_runs(browser, project):
    page = browser.new_page()
    page.goto((project["out"] / "index.html").as_uri())
    assert page.locator("table.sortable th button").count() > 0
    page.close()


def test_every_picture_has_alternative_text(project):
    rendered = pages(project)
    described = [image["alt"] for image in rendered["01_good"].select("img")]
    assert described[0] == "A dot that was described" and all(described)
    on_the_index = [image["alt"] for image in rendered["index"].select(".card img")]
    assert on_the_index == ["A dot that was described", "The last word"]
    assert all(image["alt"] for image in rendered["index"].select("figure img"))


def test_large_figures_are_compressed(project):
    small, _, large = pages(project)["01_good"].select("img")
    raw = base64.b64decode(large["src"].partition(",")[2])
    assert small["src"].startswith("data:image/png") and large["src"].startswith("data:image/webp")
    assert Image.open(io.BytesIO(raw)).size == (600, 400) == (int(large["width"]), int(large["height"]))


def test_pages_are_built_for_readers(project):
    for page in pages(project).values():
        assert page.html["lang"] == "en" and page.select_one("meta[name=viewport]")
        assert page.select_one("a.skip")["href"] == "#main" and page.select_one("main#main")
        levels = [int(tag.name[1]) for tag in page.find_all(re.compile("^h[1-6]$"))]
        assert levels[0] == 1 and levels.count(1) == 1
        assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
        assert all(table.parent.get("class") == ["scroll"] for table in page.select("table"))
    page = pages(project)["01_good"]
    assert all(not details.has_attr("open") for details in page.select("details.code"))
    assert "progress" not in page.select_one("main").get_text().replace(SHOW.strip(), "")
    links = [link["href"] for link in page.select("main p a")]
    assert links == ["02_bad.html#x", "https://example.org"]  # a file of the project would be a dead link


def test_numbers_of_a_table_stand_below_each_other_and_below_their_head(project):
    table = pages(project)["01_good"].table
    assert [cell.get_text() for cell in table.select(".number")] == ["score", "0.5"]
    assert [head["scope"] for head in table.select("th")] == ["col", "col", "col", "row"]
    assert not table.select("[style]") and not table.has_attr("border")


def test_the_index_shows_the_numbers_of_the_records(project):
    records = [record for record in make_records() if record["protocol"] == "ignore_border"]
    tables = pages(project)["index"].select("details table")
    assert len(tables) == 2 * len(PROTOCOLS)  # first those of the photos, whose records come with the project
    table = tables[len(PROTOCOLS)]
    columns = [head.get_text() for head in table.select("thead th")]
    rows = [dict(zip(columns, row.find_all(["th", "td"]), strict=True)) for row in table.select("tbody tr")]
    by_name = {row["model"].get_text(" ", strip=True): row for row in rows}
    names = ("U-Net 1 seed 5 epochs on a CPU", "other on an encoder 2 seeds 5 epochs on a CPU")
    assert set(by_name) == set(names)
    assert rows == sorted(rows, key=lambda row: -float(row["mIoU"]["data-value"]))
    rows = [by_name[name] for name in names]
    scored = {"mIoU": "miou", "mean Dice": "dice", "accuracy": "accuracy", "boundary IoU": "boundary_iou"}
    for column, key in scored.items():
        single, double = (row[column] for row in rows)
        low, high = records[0]["scores"]["ci95"][key]
        assert single.get_text(" ", strip=True) == f"{records[0]['scores'][key]:.3f} [{low:.3f}, {high:.3f}]"
        values = [record["scores"][key] for record in records[1:]]
        assert float(double["data-value"]) == pytest.approx(np.mean(values))
        assert double.select("small")[1].get_text() == f"{min(values):.3f}–{max(values):.3f}"
    for name, value in records[0]["scores"]["iou"].items():
        low, high = records[0]["scores"]["ci95"][f"iou.{name}"]
        assert rows[0][f"IoU {name}"].get_text(" ", strip=True) == f"{value:.3f} [{low:.3f}, {high:.3f}]"
    assert rows[0]["training"].get_text(" ", strip=True) == "83 s"
    (answer,) = [tag.get_text() for tag in pages(project)["index"].select("p") if "drawn pictures of" in tag.get_text()]
    assert answer.startswith("Without clicks, ") and "on 6 drawn pictures of 2 breeds" in answer
    assert (
        max(by_name, key=lambda name: float(by_name[name]["mIoU"]["data-value"])).split()[0]
        in answer.split(" is best ")[0]
    )
    facts = pages(project)["index"].dl.get_text(" ", strip=True)
    assert "f00d" in facts and "24 for training, 6 for the test" in facts


def test_the_kernel_is_this_interpreter_with_this_study(project):
    seen = json.loads((project["books"] / "seen.json").read_text())
    study = project["study"]
    assert Path(seen["python"]) == Path(sys.executable)
    assert Path(seen["folder"]) == project["books"].resolve()
    assert (seen["title"], seen["rate"]) == (study.title, study.models["unet"].learning_rate)


PLACES = ("PETSEG_DATA", "PETSEG_RUNS", "PETSEG_FIGURES", "PETSEG_UNLABELLED", "PETSEG_OOD")


@pytest.mark.parametrize("places", [(), PLACES, ("PETSEG_RUNS", "PETSEG_OOD")], ids=["no places", "all", "some"])
@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("name", ["smoke", "sample", "oxford", "oxford-cpu", "oxford-gpu", "shipped"])
def test_the_study_reaches_the_kernel_as_it_is(name, own, places, tmp_path, monkeypatch):
    text = (STUDIES / f"{name}.toml").read_text().replace('title = "', 'title = "My own: ')
    (tmp_path / "mine.toml").write_text(text)
    (tmp_path / "scratch").mkdir()
    monkeypatch.chdir(tmp_path)
    for place in PLACES:
        monkeypatch.delenv(place, raising=False)
    for place in places:
        (tmp_path / place).mkdir()
        monkeypatch.setenv(place, place)  # relative to this folder; the kernel is started in another one
    study = load_study("mine.toml" if own else name)
    for place in PLACES:  # what the environment says afterwards does not count
        monkeypatch.setenv(place, str(tmp_path / "scratch"))
    environment = _environment(study, tmp_path / "scratch")
    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.chdir(tmp_path / "scratch")
    assert load_study() == study


@pytest.mark.parametrize("options", [[], ["--in-place"]])
def test_an_installed_package_says_where_the_notebooks_are(options, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "IS_CHECKOUT", False)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["report", "--study", "smoke", *options])
    assert isinstance(result.exception, PetsegError)
    message = str(result.exception)
    assert "not part of the installed package" in message and "repository" in message and "checkout" in message
    assert "\n" not in message
    (tmp_path / "notebooks").mkdir()
    write_notebook(tmp_path / "notebooks" / "01_here.ipynb", "Here", "1")
    assert run.notebook_folder() == tmp_path / "notebooks"


def test_no_places_of_this_machine(project, monkeypatch):
    for path in project["out"].iterdir():
        text = re.sub(r'"data:[^"]*"', "", path.read_text(encoding="utf-8"))
        assert not [place for place in (ROOT, Path.home(), project["books"].parent, sys.prefix) if f"{place}/" in text]
    told = "petseg_utils/study/settings.py:3"
    for tail in (", and/or 1/2/3", ", in f"):
        assert _without_places(f"File {ROOT}/{told}{tail}") == f"File {told}{tail}"
    if os.name == "posix":
        assert _without_places("/" + "tmp/nobody/a.txt") == "a.txt"
    windows = PureWindowsPath("C:/Users/somebody")
    monkeypatch.setattr(run, "ROOT", windows / "petseg")
    assert _without_places(f"{windows}\\petseg\\a.py, {windows.as_posix()}/petseg/b.py") == "a.py, b.py"
    harmless = "and/or 1/2/3 </b></td> https://example.org/tmp/a"
    assert _without_places(harmless) == harmless


def test_a_widget_leaves_its_text_and_a_progress_bar_nothing():
    texts = ("reading:   0%|          | 0/3 [00:00<?, ?it/s]", "The click demo.")
    outputs = [new_output("display_data", {run._WIDGET: {}, "text/plain": text}) for text in texts]
    assert [output.data for output in run._tidy(outputs)] == [{"text/plain": "The click demo."}]


def test_only_runs_what_is_named_and_keeps_the_other_pages(project, tmp_path):
    study, books = project["study"], project["books"]
    out = shutil.copytree(project["out"], tmp_path / "out")
    before = (out / "01_good.html").read_bytes()
    assert build_report(study, only=["3"], notebooks=books, out=out) == []
    assert (out / "01_good.html").read_bytes() == before
    first, second, third = soup(out / "index.html").select(".card")
    assert first.a["href"] == "01_good.html" and first.img and not first.select_one(".state")
    assert "FAILED" in second.get_text() and "done in" in third.get_text()
    with pytest.raises(PetsegError, match=r"No notebook 07\. There are 01, 02, 03\."):
        build_report(study, only=["01", "07"], notebooks=books, out=out)


def test_without_notebooks_or_records(project, tmp_path):
    with pytest.raises(PetsegError, match="No numbered notebooks"):
        build_report(project["study"], notebooks=tmp_path, out=tmp_path / "out")
    study = replace(project["study"], runs_dir=tmp_path / "runs" / "mine")
    write_notebook(tmp_path / "01_end.ipynb", "End", "x = 1", "import os; os._exit(3)")
    (failure,) = build_report(study, notebooks=tmp_path, out=tmp_path / "out")
    assert failure.cell == 2 and "Python ended" in failure.error
    assert "Python ended" in soup(tmp_path / "out" / "01_end.html").select_one(".output_error").get_text()
    index = soup(tmp_path / "out" / "index.html")
    assert "no results yet" in index.get_text()
    assert all("oxford-cpu" in table.caption.get_text() for table in index.select("details table"))


def test_in_place_keeps_outputs_and_leaves_a_failing_notebook_untouched(project, tmp_path):
    write_notebook(tmp_path / "01_bad.ipynb", "Bad", "1 / 0")
    talk = "import sys; print(sys.prefix)\nprint('50%|##  | 1/2\\na warning', file=sys.stderr)\n6 * 7"
    write_notebook(tmp_path / "02_good.ipynb", "Good", talk)
    before = (tmp_path / "01_bad.ipynb").read_bytes()
    failures = execute_in_place(project["study"], notebooks=tmp_path)
    assert [failure.notebook for failure in failures] == ["01_bad"]
    assert (tmp_path / "01_bad.ipynb").read_bytes() == before
    book = nbformat.read(tmp_path / "02_good.ipynb", as_version=4)
    nbformat.validate(book)
    stream, result = book.cells[1].outputs
    assert stream.name == "stdout" and sys.prefix not in stream.text
    assert result.data["text/plain"] == "42" and book.cells[1].metadata == {}
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    assert book.metadata == {"kernelspec": kernel, "language_info": {"name": "python"}}
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to send")
@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_ctrl_c_and_sigterm_end_the_whole_run_and_its_kernel(data, tmp_path, number):
    (tmp_path / "notebooks").mkdir()
    code = "import os, pathlib, time; pathlib.Path('kernel').write_text(str(os.getpid())); time.sleep(600)"
    for name in ("01_slow", "02_next"):
        write_notebook(tmp_path / "notebooks" / f"{name}.ipynb", name, code)
    kernel = tmp_path / "notebooks" / "kernel"
    run = "from petseg_utils.report import run; run.notebook_folder = lambda: run.Path('notebooks')"
    run += "; from petseg_utils.apps.cli import main; main.app(['report', '--in-place', '--study', 'smoke'])"
    command = [sys.executable, "-c", run]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        while not (kernel.is_file() and kernel.read_text()):
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "Stopped. Finished pages and trainings are kept" in said
    assert "Traceback" not in said and "02_next" not in said
    with pytest.raises(ProcessLookupError):
        os.kill(int(kernel.read_text()), 0)


def test_a_report_leaves_the_signals_of_its_process_as_they_were(study, tmp_path):
    write_notebook(tmp_path / "01_a.ipynb", "A", "1")
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert execute_in_place(study, notebooks=tmp_path) == []
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_of_two_runs_in_one_folder_one_is_told(study, tmp_path):
    write_notebook(tmp_path / "01_slow.ipynb", "Slow", "1")
    with alone_in(tmp_path, "petseg report", ""):
        for run_notebooks in (partial(build_report, out=tmp_path), execute_in_place):
            with pytest.raises(
                PetsegError, match=r"^Another petseg report is writing to .*: wait for it to end, or run"
            ):
                run_notebooks(study, notebooks=tmp_path)
    assert build_report(study, notebooks=tmp_path, out=tmp_path) == []
    assert not list(tmp_path.glob(".petseg*"))


def test_a_notebook_without_heading_is_named_after_its_file(tmp_path):
    nbformat.write(new_notebook(cells=[new_code_cell("1")]), tmp_path / "04_some_thing.ipynb")
    sheet = read_sheet(tmp_path / "04_some_thing.ipynb")
    assert (sheet.title, sheet.question, sheet.number) == ("04 some thing", "", "04")


def test_a_solution_is_folded_with_its_output_and_opens_by_key(project, browser):
    page = browser.new_page()
    page.goto((project["out"] / "01_good.html").as_uri())
    solution = page.locator("details.solution")
    code, output = solution.locator(".code .highlight"), solution.locator(".output_text")
    assert not code.is_visible() and not output.is_visible()
    solution.locator("summary").focus()
    page.keyboard.press("Enter")
    assert code.is_visible() and "print" in code.inner_text() and output.inner_text().strip() == "42"
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_tables_sort_and_protocols_open_one_at_a_time(project, browser, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    problems = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: problems.append(request.url) if request.url.startswith("http") else None)
    page.goto((project["out"] / "index.html").as_uri())
    shown = page.locator("details table.results:visible tbody tr th:first-child").first
    values = "rows => rows.map(row => Number(row.cells[1].dataset.value))"
    page.locator("details table.results >> nth=0 >> thead >> text=mIoU").click()
    down = page.locator("details table.results >> nth=0 >> tbody tr").evaluate_all(values)
    page.locator("details table.results >> nth=0 >> thead >> text=mIoU").click()
    up = page.locator("details table.results >> nth=0 >> tbody tr").evaluate_all(values)
    assert down == sorted(down, reverse=True) and up == sorted(up) and len(set(up)) > 1
    first, second = page.locator("details.more").nth(0), page.locator("details.more").nth(1)
    assert first.evaluate("details => details.open") and not second.evaluate("details => details.open")
    second.locator("summary").click()
    assert not first.evaluate("details => details.open") and second.evaluate("details => details.open")
    assert shown.is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", paper)[:3])) > 380) == (scheme == "light")
    assert not problems
    page.close()
