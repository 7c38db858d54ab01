"""The front page of a report: results, notebooks, and how all of it was made."""

import io
import platform
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml
from bs4 import BeautifulSoup
from markupsafe import Markup
from PIL import Image

from petseg_utils.experiments.study_records import committed_records
from petseg_utils.models.encoders import resolve
from petseg_utils.report.pages import PICTURES, Sheet, data_of, data_uri, minutes, template, today
from petseg_utils.report.sentences import answer, budget_sentence
from petseg_utils.report.tables import protocol_tabs
from petseg_utils.scores.records import read_records
from petseg_utils.scores.results import results_table, select
from petseg_utils.study import ROOT, Study
from petseg_utils.study.provenance import git_commit, versions

FIGURES = 4  # of the last notebook, shown on the front page
PHOTOS = "oxford-cpu"  # the study on photos whose records are committed
THOROUGH = "oxford-gpu"  # and two of its models, trained longer


@dataclass(frozen=True)
class TryPage:
    """The page on which readers try the models on their own photos.

    Parameters
    ----------
    link : str or None
        Its address; None where it was left out.
    reason : str
        Why it was.
    """

    link: str | None
    reason: str = ""


def render_index(
    study: Study, sheets: list[Sheet], out: Path, seconds: dict[str, float], try_it: TryPage | None = None
) -> str:
    """Front page: the question, the results, the notebooks, and how all of it was made.

    Parameters
    ----------
    study : Study
        What was run.
    sheets : list of Sheet
        All notebooks, those without a page too.
    out : Path
        Where the pages are.
    seconds : dict
        How long each notebook took that ran now.
    try_it : TryPage, optional
        Where readers can try it.
    """
    records = select(read_records(study.runs_dir / "records.jsonl"))
    newest = [record for record in records if record["data"] == records[-1]["data"]]
    photos = committed_records(PHOTOS) if study.name != PHOTOS else []
    facts = {"study": study.name, "encoder": resolve(study.encoder), "seeds": ", ".join(map(str, study.seeds))}
    facts["commit"] = git_commit()
    if newest:
        last = newest[-1]
        facts["pictures"] = f"{last['trained_on']['n_images']:,} for training, {last['n_images']:,} for the test"
        facts["data fingerprint"] = last["data"]
    facts["machine"] = f"{platform.system()} {platform.machine()}" + (f", {last['device']}" if newest else "")
    facts["date"] = today()
    facts["time"] = f"{sum(seconds.values()) / 60:.1f} minutes for {len(seconds)} of {len(sheets)} notebooks"
    facts["versions"] = ", ".join(f"{name} {version}" for name, version in versions().items())
    return template().render(
        study=study,
        title=study.title,
        try_it=try_it,
        linked=[sheet for sheet in sheets if (out / f"{sheet.name}.html").is_file()],
        answers=_answers(newest, study.figures_dir, "drawn pictures" if study.draws_its_data else "photos"),
        results=_results(newest, study.name),
        photo_answers=_photo_answers(photos),
        photo_results=_results(photos, PHOTOS),
        figures=_key_figures(sheets, out),
        older=len(records) - len(newest),
        cards=[_card(sheet, out / f"{sheet.name}.html", seconds.get(sheet.name)) for sheet in sheets],
        facts=facts,
        citation=_citation(),
    )


def _answers(records: list[dict], folder: Path, pictures: str) -> list[str]:
    """The answer in three sentences, from a study's records and, where they were made, its compared pairs."""
    if not records:
        return []
    # Clicks may be another study's: the weights that ship are scored with them.
    path = folder / "pairs.csv"
    pairs = pd.read_csv(path) if path.is_file() else pd.DataFrame()
    own = [record for record in records if record["study"] == records[0]["study"]]
    return answer(results_table(own), records, pairs, pictures)


def _photo_answers(photos: list[dict]) -> list[str]:
    """The same of the photos' records, and what longer training changes."""
    if not photos:
        return []
    sentences = _answers(photos + committed_records("shipped"), ROOT / "figures" / PHOTOS, "photos")
    thorough = committed_records(THOROUGH)
    return [*sentences, budget_sentence(photos, thorough)] if thorough else sentences


def _results(records: list[dict], name: str) -> Markup:
    """A study's results, a tab per protocol; nothing where there are no records."""
    if not records:
        return Markup("")
    return protocol_tabs(results_table(records), f"Study {name}, {records[0]['n_images']} test pictures")


def _key_figures(sheets: list[Sheet], out: Path) -> list[dict]:
    """The first figures of the last notebook, which sums up the others, where it has a page."""
    last, page = sheets[-1], out / f"{sheets[-1].name}.html"
    if not last.name.endswith("results") or not page.is_file():
        return []
    soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    return [
        {key: figure[key] for key in ("src", "alt", "width", "height")}
        for figure in soup.select("img.figure[width]")[:FIGURES]
    ]


def _card(sheet: Sheet, page: Path, seconds: float | None) -> dict:
    """Collect what the index shows of a notebook; all but its time comes from the page that is there."""
    card = {"sheet": sheet, "page": page.name if page.is_file() else None, "state": "", "failed": False}
    if not page.is_file():
        return card | {"state": "not run yet"}
    soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    card["failed"] = soup.select_one(".banner") is not None
    if card["failed"]:
        card["state"] = "FAILED"
    elif seconds is not None:
        card["state"] = f"done in {minutes(seconds)}"
    if figure := soup.select_one('img.figure:not([src^="data:image/svg"])'):
        picture = Image.open(io.BytesIO(data_of(figure["src"])), formats=PICTURES)
        card |= {"picture": data_uri(picture, 480), "alt": figure["alt"]}
    return card


def _citation() -> str:
    """Title and authors of CITATION.cff in one line; nothing where there is no such file."""
    path = ROOT / "CITATION.cff"
    if not path.is_file():
        return ""
    cff = yaml.safe_load(path.read_text(encoding="utf-8"))
    names = [
        author.get("name") or f"{author.get('given-names', '')} {author.get('family-names', '')}".strip()
        for author in cff["authors"]
    ]
    return f"{', '.join(names)}. {cff['title']}. Version {cff['version']}, {cff['date-released']}."
