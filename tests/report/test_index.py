"""The front page of a run on photos: its own numbers first, those that come with the project under their names."""

from dataclasses import replace

import pandas as pd
import pytest
from bs4 import BeautifulSoup
from PIL import Image

from petseg_utils.report import index
from petseg_utils.report.pages import read_sheet
from petseg_utils.scores.records import append_records
from petseg_utils.study import ROOT, load_study
from tools.rehearse import wrong_sentences

CLIP = "clip:ViT-B-16-quickgelu/openai@0123456789ab"
OTHERS = "The decoder of study oxford-cpu is best."


@pytest.fixture
def on_clip(tmp_path, sample_records):
    """A study on photos with CLIP, its records and files made up, and pages whose first lesson is another study's."""
    study = load_study("smoke")
    study = replace(
        study,
        name="mine",
        title="My photos",
        encoder=CLIP,
        runs_dir=tmp_path,
        figures_dir=tmp_path / "figures",
        draws_its_data=False,
    )
    study.figures_dir.mkdir()
    made_up = [record | {"study": "mine", "encoder": record["encoder"] and CLIP} for record in sample_records]
    append_records(study.runs_dir / "records.jsonl", made_up)
    pairs = pd.read_csv(ROOT / "figures" / "sample" / "pairs.csv")
    sides = ["encoder a", "encoder b"]
    pairs[sides] = pairs[sides].where(pairs[sides].isna(), CLIP)
    pairs.to_csv(study.figures_dir / "pairs.csv", index=False)
    pd.read_csv(ROOT / "figures" / "sample" / "robustness.csv").to_csv(
        study.figures_dir / "robustness.csv", index=False
    )
    pd.DataFrame({"breed": ["a", "a", "b", "c", "d"]}).to_csv(study.figures_dir / "pictures.csv", index=False)
    for name in index.OWN_FIGURES.values():
        Image.new("RGB", (8, 6)).save(study.figures_dir / f"{name}.png")
    sheets = [read_sheet(path) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
    for sheet in sheets:
        (tmp_path / f"{sheet.name}.html").write_text(f"<h2>What we learned</h2><ul><li>{OTHERS}</li></ul>")
    return study, sheets, tmp_path


def test_the_numbers_of_a_run_on_photos_come_first(on_clip):
    study, sheets, folder = on_clip
    html = index.render_index(study, sheets, folder, {})
    page = BeautifulSoup(html, "html.parser")
    lead = page.select_one("p.lead").get_text()
    assert lead.startswith("Without clicks, the decoder on CLIP ViT-B/16 is best on 120 photos of 32 breeds: mIoU ")
    order = [heading.get_text() for heading in page.select("h2")]
    places = [
        order.index(name) for name in ("The notebooks", "What this run made", "Records that come with the project")
    ]
    assert places == sorted(places) and order.index("Four ways") > places[-1]
    captions = [caption.get_text() for caption in page.select("caption") if "Study " in caption.get_text()]
    assert "Study mine, 120 test pictures" in captions[0] and "oxford-cpu" in captions[-1]
    text = " ".join(page.get_text(" ").split())
    assert text.index("With only 321 labelled photos") > text.index("Records that come with the project")
    assert "In study oxford-cpu the frozen network is a stand-in" in text and "CLIP's photos are of the web" in text
    (folder / "index.html").write_text(html, encoding="utf-8")
    assert wrong_sentences(folder / "index.html") == []


def test_the_cards_of_a_run_on_photos_are_its_own(on_clip):
    study, sheets, folder = on_clip
    page = BeautifulSoup(index.render_index(study, sheets, folder, {}), "html.parser")
    cards = page.select(".card")
    assert len(cards) == len(sheets) and all(card.img for card in cards)
    said = [card.p.get_text() for card in cards]
    assert not [text for text in said if text == OTHERS or "EfficientNet" in text]
    assert "show three of 4 breeds" in said[0] and "A small decoder on CLIP ViT-B/16 reaches" in said[3]
    assert said[6].startswith("Picture by picture, the lead of the decoder over the U-Net is ")


def test_a_run_on_drawn_pictures_leads_with_the_photos_of_the_committed_records(on_clip):
    study, sheets, folder = on_clip
    html = index.render_index(replace(study, draws_its_data=True), sheets, folder, {})
    page = BeautifulSoup(html, "html.parser")
    assert "With only 321 labelled photos" in page.select_one("p.lead").get_text()
    order = [heading.get_text() for heading in page.select("h2")]
    assert order.index("Limits") < order.index("The notebooks") < order.index("What this run made")
    assert "Records that come with the project" not in order


def test_a_run_on_photos_without_any_score_says_so(on_clip):
    study, sheets, folder = on_clip
    (folder / "records.jsonl").unlink()
    page = BeautifulSoup(index.render_index(study, sheets, folder, {}), "html.parser")
    assert not page.select("p.lead") and "There are no results yet" in page.get_text()
