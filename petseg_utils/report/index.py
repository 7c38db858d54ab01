"""The front page of a report: the question and its answer on photos, the notebooks, and what this run made.

If a study has photos, its own numbers come first; the records that come with the project follow.
"""

import io
import platform
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import yaml
from bs4 import BeautifulSoup
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

from petseg_utils.experiments import diagrams
from petseg_utils.experiments.elsewhere import home_and_elsewhere_chart, shipped_records
from petseg_utils.experiments.front_picture import CAPTION, front_picture
from petseg_utils.experiments.other_tools import read_other_tools, tools_in_words, tools_table
from petseg_utils.experiments.plotting import STYLE
from petseg_utils.experiments.study_records import committed_records, longer_trained
from petseg_utils.models.encoders import load_encoder, resolve
from petseg_utils.models.names import count_of, titled
from petseg_utils.report.pages import PICTURES, WIDEST, Sheet, TryPage, data_of, data_uri, template, today
from petseg_utils.report.sentences import (
    answer,
    budget_sentence,
    findings,
    home_sentences,
    loss_sentence,
    mean_clicks,
    not_measured,
    size_sentence,
    summary_sentences,
    training_sentence,
    unseen_sentence,
)
from petseg_utils.report.tables import budgets_table, cell, html_table, natural_clicks_table, protocol_tabs
from petseg_utils.scores.intervals import with_interval
from petseg_utils.scores.records import read_records
from petseg_utils.scores.results import PRIMARY, PROMPTED, results_table, select, time_text
from petseg_utils.study import ROOT, Study, load_study
from petseg_utils.study.provenance import git_commit, versions
from petseg_utils.training.recipes import recipe_of

PHOTOS = "oxford-cpu"  # the study on photos with committed records
THOROUGH = "oxford-gpu"  # the study with two of its models, trained longer
WAYS = {
    "unet": (
        "It learns everything from the masks. An encoder halves the picture until each cell sees a large part of it, "
        "a decoder doubles it again, and skip connections hand it the fine detail. It is the yardstick for the others."
    ),
    "autoencoder_unet": (
        "An autoencoder first learns to paint pictures through a narrow bottleneck, which takes no masks. Its encoder "
        "is then frozen, and a U-Net's decoder learns on it. Does painting teach what a mask needs?"
    ),
    "decoder": (
        "A network that others trained on many pictures describes the photo, and stays as it is. A small decoder "
        "learns to turn its descriptions, from the coarsest to the finest, into a mask."
    ),
    "point": (
        "It begins with the decoder's mask and takes clicks: this is the pet, this is not. A small network finds what "
        "belongs to what was clicked. Each further click costs that network only."
    ),
}
DRAWN: dict[str, tuple[str, Callable[[Any, int], Figure]]] = {  # what the diagram of each way shows
    "unet": ("unet", diagrams.unet_diagram),
    "autoencoder_unet": ("autoencoder", diagrams.autoencoder_diagram),
    "decoder": ("decoder", diagrams.decoder_diagram),
    "point": ("point", diagrams.click_head_diagram),
}
FIGURES = {  # the figure of each notebook that shows its finding
    "01": "01_samples",
    "02": "02_scores_photos",
    "03": "03_scores",
    "04": "04_labels_photos",
    "05": "05_natural",
    "06": "06_loss_photos",
    "07": "07_photos",
}
# The same for a run on photos, which has its own figures.
OWN_FIGURES = FIGURES | {"02": "02_training", "04": "04_labels", "06": "06_loss", "07": "07_scores"}


def render_index(
    study: Study, sheets: list[Sheet], out: Path, seconds: dict[str, float], try_it: TryPage | None = None
) -> str:
    """Render the front page: question and answer on photos, the notebooks, what this run made; see the module."""
    records = select(read_records(study.runs_dir / "records.jsonl"))
    newest = [record for record in records if record["data"] == records[-1]["data"]]
    encoder = re.sub("//.*/", "//", resolve(study.encoder))  # for weights from a file, only its name
    facts = {"study": study.name, "encoder": encoder, "seeds": ", ".join(map(str, study.seeds))}
    facts["commit"] = git_commit()
    if newest:
        last = newest[-1]
        facts["pictures"] = f"{last['trained_on']['n_images']:,} for training, {last['n_images']:,} for the test"
        facts["data fingerprint"] = last["data"]
    facts["machine"] = f"{platform.system()} {platform.machine()}" + (f", {last['device']}" if newest else "")
    facts["date"] = today()
    facts["time"] = f"{sum(seconds.values()) / 60:.1f} minutes for {len(seconds)} of {len(sheets)} notebooks"
    facts["versions"] = ", ".join(f"{name} {version}" for name, version in versions().items())
    with plt.rc_context(STYLE):
        on_photos = _findings(study, newest)
        return template().render(
            study=study,
            title="How well can a pet be cut out of a photo?",
            try_it=try_it,
            linked=[sheet for sheet in sheets if (out / f"{sheet.name}.html").is_file()],
            picture=_picture(),
            photos=_photos(),
            answers=_answers(newest, study.figures_dir, "drawn pictures" if study.draws_its_data else "photos"),
            not_measured=not_measured(newest) if newest else "",
            results=_results(newest, study.name),
            older=len(records) - len(newest),
            cards=[
                _card(sheet, study, out / f"{sheet.name}.html", seconds.get(sheet.name), on_photos) for sheet in sheets
            ],
            facts=facts,
            citation=_citation(),
            references=[_reference(of) for of in _cff().get("references", ())],
        )


def _answers(records: list[dict], folder: Path, pictures: str) -> list[str]:
    """Say who leads, whether that is shown, and what clicks add, from a study's records and, if present, its pairs."""
    if not records:
        return []
    return answer(results_table(records), records, _file(folder / "pairs.csv"), pictures)


def _findings(study: Study, records: list[dict]) -> dict[str, str]:
    """Return each notebook's finding on photos: from the study, else from the records that come with the project."""
    if study.draws_its_data:  # drawn pictures show nothing about photos
        return (_photos() or {"findings": {}})["findings"]
    files = (_file(study.figures_dir / f"{name}.csv") for name in ("pairs", "pictures", "robustness"))
    pairs, pictures, perturbed = files
    breeds = pictures["breed"] if len(pictures) else pd.Series(dtype=str)
    return findings(records, [], pairs, breeds, perturbed)


def _file(path: Path) -> pd.DataFrame:
    """Read a table; return an empty one if there is no file."""
    return pd.read_csv(path) if path.is_file() else pd.DataFrame()


@cache  # cached, as the index is written again after each notebook
def _picture() -> dict[str, str]:
    """Return the picture at the top of the page."""
    return _two_sizes(front_picture(), front_picture(upright=True), CAPTION)


@cache
def _photos() -> dict | None:
    """Return what is known about photos from the committed records; None in an installed package without them."""
    records, shipped, folder = committed_records(PHOTOS), shipped_records(), ROOT / "figures" / PHOTOS
    if not records or not shipped:
        return None
    leader, lead, _ = _answers(records, folder, "photos")
    thorough, pairs = committed_records(THOROUGH), pd.read_csv(folder / "pairs.csv")
    pictures, perturbed = pd.read_csv(folder / "pictures.csv"), pd.read_csv(folder / "robustness.csv")
    tested = pictures[pictures["split"] == "test"]
    chart = (home_and_elsewhere_chart(shipped), home_and_elsewhere_chart(shipped, narrow=True))
    return {
        "summary": summary_sentences(records, thorough, shipped, pairs, tested["breed"]),
        "home": [*home_sentences(shipped), unseen_sentence(shipped, pd.read_csv(folder / "elsewhere.csv"))],
        "chart": _two_sizes(*chart, "IoU of the pet by the number of clicks, with 95 % intervals over the photos."),
        "tools": _plain_table(tools_table(tools := read_other_tools()).reset_index(), "Other tools on the same photos"),
        "tools_said": tools_in_words(tools),
        "study": PHOTOS,
        "training": training_sentence(records),
        "ways": _ways(records),
        "comparison": [leader, lead, budget_sentence(records, thorough)],
        "budgets": _plain_table(budgets_table([*records, *thorough]), "How each model was trained"),
        "clicks": _plain_table(natural_clicks_table(shipped), "One click on the deepest wrong part"),
        "sizes": size_sentence(shipped),
        "losses": loss_sentence(perturbed),
        "findings": findings(records, thorough, pairs, pictures["breed"], perturbed),
        "results": _results([*records, *longer_trained(thorough, records)], f"{PHOTOS}, and of {THOROUGH}"),
    }


def _plain_table(table: pd.DataFrame, caption: str) -> Markup:
    """Render a table of words and numbers for reading."""
    numbers = [table[name].str.fullmatch(r"[\d.]+").all() for name in table]
    rows = [
        [cell(text, number=number) for text, number in zip(row, numbers, strict=True)]
        for row in table.itertuples(index=False)
    ]
    return html_table(list(table.columns), rows, caption)


def _ways(records: list[dict]) -> list[dict]:
    """Describe the four models: what each does, as a diagram and in words, and its score; all in one study."""
    current, ways, study = select(records, protocol=PRIMARY), [], load_study(PHOTOS)
    rows = results_table(current).set_index("model")
    encoder = load_encoder(study.encoder)
    for name, text in WAYS.items():
        model, draw = DRAWN[name]
        recipe = recipe_of(model)
        network = recipe.build(study.settings(model), encoder if recipe.on_frozen_encoder else None)
        row = rows.loc[name]
        score = f"mIoU {with_interval(row['mIoU'], row['mIoU low'], row['mIoU high'])}, {row['seeds']} seeds"
        if name == PROMPTED:
            seeds, clicks = mean_clicks([record for record in current if record["model"] == PROMPTED])
            score = f"IoU of the pet {clicks['proposed'][0]:.3f} without a click, {clicks['iou@3'][0]:.3f} after three"
            score += f" (means over photos), {seeds} seeds"
        learned = f"{count_of(row['trained parameters'])} weights trained in {time_text(row['training_seconds'])}."
        title = titled(name, row["encoder"])
        way = {"title": title[0].upper() + title[1:], "text": text, "score": f"{score}; {learned}"}
        alt = f"Diagram of the {titled(model)}: its layers, and the shapes of their outputs"
        ways.append(way | {"picture": _drawn(draw(network, study.image_size)), "alt": alt})
    return ways


def _two_sizes(wide: Figure, narrow: Figure, alt: str) -> dict[str, str]:
    """Return a figure for a desktop and one for a phone as data addresses."""
    return {"wide": _drawn(wide), "narrow": _drawn(narrow), "alt": alt}


def _drawn(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=180)
    plt.close(figure)
    return data_uri(Image.open(buffer, formats=PICTURES), WIDEST)


def _results(records: list[dict], name: str) -> Markup:
    """Render a study's results, one tab per protocol; empty if there are no records."""
    if not records:
        return Markup("")
    return protocol_tabs(results_table(records), f"Study {name}, {records[0]['n_images']} test pictures")


def _card(sheet: Sheet, study: Study, page: Path, seconds: float | None, on_photos: dict[str, str]) -> dict:
    """Collect what the index shows of a notebook: its finding, preferably on photos, and the figure that shows it."""
    card = {"sheet": sheet, "page": page.name if page.is_file() else None, "state": "", "failed": False}
    if not page.is_file():
        return card | {"state": "not run yet"}
    soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    card["failed"] = soup.select_one(".banner") is not None
    if card["failed"]:
        card["state"] = "FAILED"
    elif seconds is not None:
        card["state"] = f"done in {time_text(seconds)}"
    learned = soup.find(re.compile("^h[2-6]$"), string=re.compile("What we learned")) or soup.find(id="What-we-learned")
    if photo_finding := on_photos.get(sheet.name):
        card["finding"] = photo_finding
    elif learned and (first := learned.find_next("li")):
        card["finding"] = " ".join(first.get_text().split())
    if study.draws_its_data:
        folders, figures = [ROOT / "figures" / PHOTOS] * bool(photo_finding) + [study.figures_dir], FIGURES
    else:
        folders, figures = [study.figures_dir], OWN_FIGURES
    paths = [folder / f"{figures.get(sheet.number)}.png" for folder in folders]
    if path := next((path for path in paths if path.is_file()), None):
        card |= {"picture": data_uri(Image.open(path, formats=PICTURES), 480), "alt": ""}
    elif figure := soup.select_one('img.figure:not([src^="data:image/svg"])'):
        picture = Image.open(io.BytesIO(data_of(figure["src"])), formats=PICTURES)
        card |= {"picture": data_uri(picture, 480), "alt": figure["alt"]}
    return card


def _citation() -> str:
    """Return title and authors from CITATION.cff in one line; empty if there is no such file."""
    if not (cff := _cff()):
        return ""
    return f"{_authors(cff)}. {cff['title']}. Version {cff['version']}, {cff['date-released']}."


def _reference(of: dict[str, Any]) -> dict[str, str]:
    """Format a reference of CITATION.cff: ``text``, and ``link``, which is empty if there is none."""
    place = (of.get("conference") or {}).get("name") or of.get("journal") or (of.get("publisher") or {}).get("name")
    pages = f"pp. {of['start']}–{of['end']}" if "end" in of else None
    text = ", ".join(str(part) for part in (place, of.get("year"), pages) if part)
    link = of.get("url") or (f"https://doi.org/{of['doi']}" if "doi" in of else "")
    return {"text": f"{_authors(of)}: “{of['title']}”" + (f", {text}" if text else ""), "link": link}


def _authors(of: dict[str, Any]) -> str:
    return ", ".join(
        author.get("name") or author.get("alias") or f"{author.get('given-names', '')} {author['family-names']}".strip()
        for author in of["authors"]
    )


def _cff() -> dict[str, Any]:
    path = ROOT / "CITATION.cff"
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
