"""The front page of a report: results, notebooks, and how all of it was made."""

import io
import platform
from pathlib import Path

import pandas as pd
import yaml
from bs4 import BeautifulSoup
from PIL import Image

from petseg_utils.evaluation import read_records
from petseg_utils.provenance import git_commit, versions
from petseg_utils.report_pages import Sheet, data_of, data_uri, minutes, template, today
from petseg_utils.results import SCORE_NAMES, results_table, select
from petseg_utils.study import ROOT, Study

CAPTIONS = {
    "ignore_border": "Border pixels left out of the scores",
    "border_as_background": "Border pixels counted as background",
    "binary_border_as_pet": "Pet or not, border pixels counted as pet",
}


def render_index(study: Study, sheets: list[Sheet], out: Path, seconds: dict[str, float]) -> str:
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
    """
    records = select(read_records(study.runs_dir / "records.jsonl"))
    newest = [record for record in records if record["data"] == records[-1]["data"]]
    facts = {"study": study.name, "seeds": ", ".join(map(str, study.seeds)), "commit": git_commit()}
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
        linked=[sheet for sheet in sheets if (out / f"{sheet.name}.html").is_file()],
        tables=[
            {"caption": caption, **_score_rows(select(newest, protocol=protocol), study)}
            for protocol, caption in CAPTIONS.items()
            if newest
        ],
        older=len(records) - len(newest),
        cards=[_card(sheet, out / f"{sheet.name}.html", seconds.get(sheet.name)) for sheet in sheets],
        facts=facts,
        citation=_citation(),
    )


def _score_rows(records: list[dict], study: Study) -> dict:
    """Turn one protocol's results into columns and rows of cells, each with text, value and what stands below."""
    table = results_table(records)
    scores = [name for name in table.columns if f"{name} low" in table.columns]
    # Means first, then one class after the other.
    scores.sort(key=lambda name: name not in SCORE_NAMES.values())
    rows = []
    for _, row in table.iterrows():
        encoder = None if pd.isna(row["encoder"]) else row["encoder"]
        seeds = sorted({
            record["seed"] for record in records
            if (record["model"], record["encoder"], record["study"]) == (row["model"], encoder, row["study"])
        })  # fmt: skip
        model = row["model"] if row["study"] == study.name else f"{row['model']}, from study {row['study']}"
        names = [model, encoder or "–", ", ".join(map(str, seeds))]
        cells = [{"text": text, "value": text} for text in names]
        for name in scores:
            if pd.isna(row[name]):
                cells.append({"text": "–", "value": "", "number": True})
                continue
            below = [f"[{row[f'{name} low']:.3f}, {row[f'{name} high']:.3f}]"]
            below += [f"{row[f'{name} min']:.3f}–{row[f'{name} max']:.3f}"] if row["seeds"] > 1 else []
            cells.append({"text": f"{row[name]:.3f}", "value": row[name], "number": True, "below": below})
        rows.append(cells)
    return {
        "columns": [(name, False) for name in ("model", "encoder", "seeds")] + [(name, True) for name in scores],
        "rows": rows,
    }


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
        picture = Image.open(io.BytesIO(data_of(figure["src"])))
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
