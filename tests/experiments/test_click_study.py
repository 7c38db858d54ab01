"""What a click buys, shown and tabled: the numbers in tables and charts are those of the dialogues."""

import numpy as np
import pytest
from matplotlib import pyplot as plt
from PIL import Image

from petseg_utils.experiments.click_study import (
    KINDS,
    change_sentence,
    iou_after,
    kind_sentences,
    natural_chart,
    near_the_centre,
    show_corrections,
)
from petseg_utils.experiments.elsewhere import away_from_home, comparable, home_and_elsewhere, score_shipped
from petseg_utils.models.prompts import centre_click
from petseg_utils.scores.clicks import add_clicks, click_values, open_pictures
from petseg_utils.scores.predictions import predict
from petseg_utils.scores.records import make_records, read_records
from petseg_utils.scores.results import CLICK_NAMES
from petseg_utils.study import ROOT
from tests.conftest import write_data
from tests.scores.painter import Painter

CARD = {"model": "point", "encoder": None, "study": "smoke", "seed": 0, "data": "x", "n_images": 9, "n_breeds": 4}


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_what_is_said_first_is_scored_from_the_proposal_on(splits):
    test, model = splits["test"], Painter(8, finds=True)
    values = click_values(model, test)
    np.testing.assert_array_equal(iou_after(KINDS["nothing"], model, test), values["proposed"])
    np.testing.assert_array_equal(iou_after(KINDS["click at the centre"], model, test), values["centre"][0])
    blind = Painter(8)
    assert iou_after(KINDS["nothing"], blind, test).max() == 0
    single, three = (iou_after(KINDS[kind], blind, test) for kind in ("click at random", "three clicks at random"))
    assert (single > 0).all() and three.mean() > single.mean()
    assert iou_after(near_the_centre(1), blind, test).mean() > iou_after(near_the_centre(30), blind, test).mean()


def test_corrections_are_shown_where_the_proposal_misses_most_with_the_click_that_was_made(splits):
    test, model = splits["test"], Painter(5)
    figure = show_corrections(model, test)
    assert len(figure.axes) == 12
    opened = next(open_pictures(model, test))
    centres = {(click.x, click.y) for click in map(centre_click, opened.pets)}  # all of the pet is missed
    for axis in figure.axes[4:]:
        (marker,) = axis.lines
        assert (marker.get_xdata()[0], marker.get_ydata()[0]) in centres
    assert not any(axis.lines for axis in figure.axes[:4])
    before, after = (np.asarray(figure.axes[row].images[0].get_array()) for row in (4, 8))
    assert not np.array_equal(before, after)


def test_the_chart_shows_every_picture_on_which_somebody_would_click(splits):
    test = splits["test"]
    values = click_values(Painter(8), test)
    left, right = natural_chart(values).axes[:2]
    np.testing.assert_allclose(left.collections[0].get_offsets(), values["missed"].T)
    assert np.isnan(np.ma.filled(right.collections[0].get_offsets(), np.nan)).all()  # nothing is in excess


def test_the_weights_that_ship_are_scored_on_a_folder_as_on_those_that_are_committed(data, tmp_path):
    records = score_shipped({"here": data}, tmp_path / "elsewhere.jsonl")
    assert read_records(tmp_path / "elsewhere.jsonl") == records
    committed = read_records(ROOT / "figures" / "shipped" / "elsewhere.jsonl")
    table = home_and_elsewhere(records)
    assert table.columns.tolist() == ["here (6)"]
    assert table.index.tolist() == [name for name in home_and_elsewhere(committed).index if "every pixel" not in name]


@pytest.mark.long
def test_masks_without_a_border_are_scored_as_they_are_and_with_the_border_of_home(splits, tmp_path):
    home, bare = write_data(tmp_path / "home", 2, 4), write_data(tmp_path / "bare", 2, 4)
    for path in (bare / "annotations" / "trimaps").glob("*.png"):
        mask = np.array(Image.open(path))
        Image.fromarray(np.where(mask == 3, 1, mask).astype(np.uint8)).save(path)
    records = score_shipped({"home": home, "bare": bare}, tmp_path / "elsewhere.jsonl")
    width = records[0]["border_width"]
    found = {(record["source"], record["border_width"]) for record in records}
    assert width > 0 and found == {("home", width), ("bare", 0.0), ("bare", width)}
    assert {(record["source"], record["border_width"]) for record in comparable(records)} == found - {("bare", 0.0)}
    table = home_and_elsewhere(records)
    assert table.loc["IoU before any click, every pixel counted"].tolist()[0] == "not known: the border is marked"
    assert away_from_home(records).columns.tolist() == ["bare less home"]


def test_scores_at_home_and_elsewhere_stand_side_by_side(study, splits):
    records = []
    for source, finds in (("at home", True), ("elsewhere", False)):
        model, test = Painter(8, finds=finds), splits["test"]
        for name in ("decoder", "point"):
            scored = make_records(study, CARD | {"model": name}, "test", test, predict(model, test), model)
            if name == "point":
                add_clicks(scored, click_values(model, test), test, 20)
            records += [{"source": source, "border_width": 1.0} | record for record in scored]
    table = home_and_elsewhere(records)
    assert table.columns.tolist() == ["at home (6)", "elsewhere (6)"]
    elsewhere, clicks = table["elsewhere (6)"], next(r["clicks"] for r in records[-1:])
    assert elsewhere["IoU before any click"].startswith("0.000 [")
    assert elsewhere["a click on what is too much: IoU before and after"] == "no such picture"
    natural = clicks["missed@1"]
    missed = elsewhere["a click on what is missed: IoU before and after"]
    assert missed == f"0.000, {natural['after']:.3f}; 0% of 6 got worse (at most 46%)"
    assert elsewhere[CLICK_NAMES["iou@3"]].startswith(f"{clicks['iou@3']:.3f} [")
    assert elsewhere[CLICK_NAMES["noc@90"]].count(".") == 3


def test_what_clicks_change_is_said_with_the_verdict_of_its_interval():
    change = np.full(20, 0.1) + np.linspace(-0.01, 0.01, 20)
    assert change_sentence("A click", change, 50).endswith("over 20 pictures: it rises.")
    assert change_sentence("A click", -change, 50).endswith("it falls.")
    assert change_sentence("A click", np.linspace(-1, 1, 20), 50).endswith("no change is shown.")
    assert change_sentence("A click", np.full(3, np.nan), 50) == "A click: no picture asks for it here."
    by_kind = {"nothing": np.zeros(20), "click at random": change, "scribble": change + 0.1}
    said = kind_sentences(by_kind, 50).splitlines()
    assert said[2].endswith("worse") and said[3].startswith("* scribble: +0.100") and said[3].endswith("better")
