"""Tables of results can be sorted, and leave out the model that is helped."""

import json

import pandas as pd
from bs4 import BeautifulSoup

from petseg_utils.experiments.elsewhere import clicked_records, shipped_records
from petseg_utils.experiments.study_records import committed_records
from petseg_utils.models.names import titled
from petseg_utils.report.tables import breeds_table, budgets_table, natural_clicks_table, protocol_tabs
from petseg_utils.scores import results


def test_the_click_model_has_no_row_before_a_click_and_a_note_says_why(sample_records):
    best = json.loads(json.dumps(sample_records))
    for record in best:
        if record["model"] == results.PROMPTED:
            record["scores"]["miou"] = 0.999
    table = results.results_table(best)
    soup = BeautifulSoup(protocol_tabs(table, "A study"), "html.parser")
    names = [row.th["data-value"] for row in soup.table.select("tbody tr")]
    others = table[(table["protocol"] == results.PRIMARY) & (table["model"] != results.PROMPTED)]
    assert names == [*map(titled, others.sort_values("mIoU", ascending=False)["model"])]
    assert "Before a click" in soup.select_one(".note").get_text()
    assert not BeautifulSoup(protocol_tabs(others, "A study"), "html.parser").select_one(".note")


def test_all_three_protocols_are_a_click_away_and_one_is_open(sample_records):
    soup = BeautifulSoup(protocol_tabs(results.results_table(sample_records), "A study"), "html.parser")
    tabs = soup.select("details")
    assert [tab.code.get_text() for tab in tabs] == ["ignore_border", "border_as_background", "binary_border_as_pet"]
    assert [tab.has_attr("open") for tab in tabs] == [True, False, False] and len({tab["name"] for tab in tabs}) == 1
    heads = [[head.get_text() for head in tab.select("thead th")] for tab in tabs]
    assert "IoU cat" in heads[0] and "IoU pet" not in heads[0] and "IoU pet" in heads[2] and "IoU cat" not in heads[2]
    for row in soup.select("tbody tr"):
        assert all(cell.has_attr("data-value") for cell in row.find_all(["th", "td"]))


def test_breeds_open_on_a_click_and_can_be_sorted():
    table = pd.DataFrame({"species": ["dog", "cat"], "pictures": [3, 4], "unet": [0.5, 0.75]}, index=["pug", "Manx"])
    soup = BeautifulSoup(breeds_table(table), "html.parser")
    assert soup.select_one("details > summary").get_text() == "All 2 breeds"
    cells = [[cell["data-value"] for cell in row.find_all(["th", "td"])] for row in soup.select("tbody tr")]
    assert cells == [["pug", "3", "0.5"], ["Manx", "4", "0.75"]]
    assert [head.get_text() for head in soup.select("thead th")] == ["breed", "pictures", "U-Net"]


def test_each_models_training_is_told_by_its_records_and_not_by_the_study():
    records = [record for name in ("oxford-cpu", "shipped") for record in committed_records(name)]
    table = budgets_table(records).set_index(["study", "model"])
    assert table.index.is_unique and table.loc[("oxford-cpu", "autoencoder"), "loss"] == "squared error"
    unet = next(record["trained_on"] for record in records if record["model"] == "unet" and "stale" not in record)
    assert table.loc[("oxford-cpu", "U-Net"), "epochs"] == str(unet["settings"]["epochs"])
    assert table.loc[("oxford-cpu", "U-Net"), "pixels"] == "224"
    assert table.loc[("oxford-cpu", "decoder"), "pixels"] == "224 and 448"
    ships = table.loc[("shipped", "decoder")]
    assert ships["pixels"] == "224 and 448" and ships["weights averaged"] == "decay 0.998"
    assert ships["photos"] == "321 + 332 of other sources + 3,303 without masks"


def test_clicks_of_both_kinds_are_told_with_those_that_lost():
    records = clicked_records(shipped_records())
    table = natural_clicks_table(records)
    assert len(table) == 2 * len(records) and table["photos"].iloc[0] == "51 of Oxford test"
    assert table["lost more than 0.02"].iloc[0] == "none (0% to 7%)"
    scored = [record["clicks"][name] for name in ("missed@1", "excess@1") for record in records]
    assert table["after"].tolist() == [f"{clicks['after']:.3f}" for clicks in scored]
