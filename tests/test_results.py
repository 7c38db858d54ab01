"""Tables, sentences, comparisons and the README: all made from records, and able to say so."""

import dataclasses
import json
import re
import runpy

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from bs4 import BeautifulSoup
from sklearn.metrics import accuracy_score, jaccard_score

from petseg_utils import (
    cards,
    comparisons,
    evaluation,
    models,
    other_data,
    published,
    readme,
    repeat,
    result_html,
    result_words,
    results,
    robustness_tables,
)
from petseg_utils.comparisons import CLICKED, Remade
from petseg_utils.metrics import BORDER, PADDING, picture_confusions, protocol_matrix, scores
from petseg_utils.pictures import load_splits
from petseg_utils.study import ROOT, PetsegError, load_study

SIZE = 24


def some_labels(n: int = 30, seed: int = 0) -> np.ndarray:
    """Squares of one species each on background, with a frame of border and a strip of padding."""
    labels = np.zeros((n, SIZE, SIZE), np.uint8)
    rng = np.random.default_rng(seed)
    for number, label in enumerate(labels):
        y, x = rng.integers(2, 8, 2)
        label[y : y + 12, x : x + 10] = BORDER
        label[y + 1 : y + 11, x + 1 : x + 9] = 1 + number % 2
    labels[:, :2] = PADDING
    return labels


def spoiled(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """The true masks with a share of the pixels changed to another class."""
    rng = np.random.default_rng(seed)
    truth = published.perfect(labels)
    return np.where(rng.random(truth.shape) < share, (truth + rng.integers(1, 3, truth.shape)) % 3, truth).astype(
        np.uint8
    )


def remade(labels: np.ndarray, *predictions: np.ndarray) -> Remade:
    counts = [picture_confusions(labels, one) for one in predictions]
    return Remade(sum(counts), counts, predictions[0], None, 0.01, 1000)


@pytest.fixture
def sample_records() -> list[dict]:
    return results.published("sample")


# The table


def test_the_table_holds_what_a_model_costs(sample_records):
    table = results.results_table(sample_records)
    for record in results.select(sample_records, protocol=results.PRIMARY):
        row = table[(table["model"] == record["model"]) & (table["protocol"] == results.PRIMARY)].iloc[0]
        assert row["training_seconds"] == record["training_seconds"]
        assert row["ms_per_picture"] == pytest.approx(1000 * record["seconds_per_picture"])
        assert row["peak_memory_mb"] == record["peak_memory_mb"] and row["stale"] == ""
        assert (row["parameters"], row["trained parameters"]) == tuple(
            record["parameters"][key] for key in ("total", "trained")
        )


def test_the_prompted_model_stands_last_and_is_marked_however_good_it_is(sample_records):
    best = json.loads(json.dumps(sample_records))
    for record in best:
        if record["model"] == results.PROMPTED:
            record["scores"]["miou"] = 0.999
    table = results.results_table(best)
    soup = BeautifulSoup(result_html.protocol_tabs(table, "A study"), "html.parser")
    names = [row.th["data-value"] for row in soup.table.select("tbody tr")]
    others = table[(table["protocol"] == results.PRIMARY) & (table["model"] != results.PROMPTED)]
    assert names == [*others.sort_values("mIoU", ascending=False)["model"], "point †"]
    assert "not ranked" in soup.select_one(".note").get_text()
    first = result_words.answer(table, best, pd.DataFrame(), "pictures")[0]
    assert "point" not in first and first.startswith(f"Of the models that nobody helps, {names[0]} on")


def test_all_three_protocols_are_a_click_away_and_one_is_open(sample_records):
    soup = BeautifulSoup(result_html.protocol_tabs(results.results_table(sample_records), "A study"), "html.parser")
    tabs = soup.select("details")
    assert [tab.code.get_text() for tab in tabs] == ["ignore_border", "border_as_background", "binary_border_as_pet"]
    assert [tab.has_attr("open") for tab in tabs] == [True, False, False] and len({tab["name"] for tab in tabs}) == 1
    heads = [[head.get_text() for head in tab.select("thead th")] for tab in tabs]
    assert "IoU cat" in heads[0] and "IoU pet" not in heads[0] and "IoU pet" in heads[2] and "IoU cat" not in heads[2]
    for row in soup.select("tbody tr"):
        assert all(cell.has_attr("data-value") for cell in row.find_all(["th", "td"]))


def test_what_was_published_stays_until_it_is_replaced(study):
    splits = load_splits(study, progress=False)
    model = torch.nn.Conv2d(3, 3, 1)
    settings = json.loads(json.dumps(vars(study.unet)))
    card = {"model": "unet", "encoder": None, "study": "smoke", "seed": 0, "data": splits["train"].fingerprint}
    card |= {"training_seconds": 1.0, "settings": settings}
    new = evaluation.make_records(study, card, "test", splits["test"], evaluation.predict(model, splits["test"]), model)
    other = [one | {"model": "autoencoder_unet"} for one in new]
    for one in other:
        one["trained_on"] = one["trained_on"] | {"settings": json.loads(json.dumps(vars(study.autoencoder_unet)))}
    another_encoder = [one | {"encoder": "lite:other", "data": "older pictures", "commit": "0ld"} for one in new]
    replaced = [one | {"test_loss": 99.0, "data": "older pictures"} for one in new]
    path = study.figures_dir / "records.jsonl"
    evaluation.write_records(path, replaced + other + another_encoder)
    evaluation.append_records(study.runs_dir / "records.jsonl", new)
    table = results.publish(study, splits)
    kept = evaluation.read_records(path)
    assert [(one["model"], one["encoder"]) for one in kept] == (
        [("unet", None)] * 3 + [("unet", "lite:other")] * 3 + [("autoencoder_unet", None)] * 3
    )
    assert all(one["test_loss"] < 99 for one in kept)
    assert [one.get("stale") for one in kept] == [None] * 3 + [True] * 3 + [None] * 3
    assert sorted(table["model"].unique()) == ["autoencoder_unet", "unet"] and (table["stale"] == "").all()
    written = pd.read_csv(study.figures_dir / "results.csv", dtype={"stale": str})
    assert written["stale"].dropna().tolist() == ["0ld"] * 3
    # A second encoder of the same data stays published, but the notebooks get the one that was evaluated last.
    second = [one | {"encoder": "lite:second"} for one in new]
    evaluation.append_records(study.runs_dir / "records.jsonl", second)
    table = results.publish(study, splits)
    assert table.loc[table["model"] == "unet", "encoder"].tolist() == ["lite:second"] * 3
    assert {one["encoder"] for one in evaluation.read_records(path)} == {None, "lite:other", "lite:second"}
    assert "STALE, made at commit 0ld" in (study.figures_dir / "results.md").read_text()


# The published table


def test_no_published_row_is_possible_and_a_true_one_is():
    assert not published.examined()["possible"].any()
    mine = pd.DataFrame({"model": ["mine"], "mIoU": [0.7], "Dice": [0.8]})
    assert published.examined(mine)["possible"].all()


def test_the_bound_holds_for_any_matrix_and_is_reached():
    rng = np.random.default_rng(0)
    for matrix in rng.integers(0, 50, (200, 3, 3)):
        found = scores(matrix)
        assert found["miou"] <= found["dice"] + 1e-12 <= published.highest_dice(found["miou"]) + 1e-9
    equal = scores(np.array([[8, 2, 2], [2, 8, 2], [2, 2, 8]]))
    assert equal["dice"] == pytest.approx(published.highest_dice(equal["miou"]))


def test_the_broken_rules_are_those_of_other_libraries():
    labels = some_labels()
    found = spoiled(labels, 0.2, 1)
    truth = published.perfect(labels)
    counts = picture_confusions(labels, found)
    each = [
        jaccard_score(a.ravel(), b.ravel(), labels=[0, 1, 2], average="macro", zero_division=0)
        for a, b in zip(truth, found, strict=True)
    ]
    assert published.absent_as_zero(counts)["mIoU"] == pytest.approx(np.mean(each))
    pixels = published.over_all_pixels(counts)
    assert pixels["Dice"] == pytest.approx(accuracy_score(truth.ravel(), found.ravel()))
    assert pixels["mIoU"] == pytest.approx(jaccard_score(truth.ravel(), found.ravel(), average="micro"))


def test_mixed_rules_give_impossible_rows_of_a_perfect_prediction():
    labels = some_labels()
    table = published.mixed_rules({"perfect": picture_confusions(labels, published.perfect(labels))})
    right, mixed, other = (table[table["rule"] == rule].iloc[0] for rule in table["rule"])
    assert right["possible"] and (right["mIoU"], right["Dice"]) == (1, 1)
    assert not mixed["possible"] and mixed["mIoU"] == pytest.approx(2 / 3) and mixed["Dice"] == 1
    assert not other["possible"] and other["Dice"] < other["mIoU"]
    poor = pd.DataFrame({"rule": ["mixed", "mixed the other way"], "mIoU": [0.2, 0.1], "Dice": [0.25, 0.11]})
    said = published.mixture_sentence(pd.concat([table, published.examined(poor)]))
    assert "mIoU allows, for **1 of 2** models" in said and said.endswith("below the mIoU, for **1 of 2**.")


# Comparisons


def test_a_clear_difference_is_real_and_chance_is_not(study):
    labels = some_labels()
    found = {
        "good": remade(labels, spoiled(labels, 0.02, 1)),
        "alike": remade(labels, spoiled(labels, 0.02, 2)),
        "bad": remade(labels, spoiled(labels, 0.3, 3)),
    }
    pairs = comparisons.paired_table(found, study).set_index(["a", "b"])
    assert len(pairs) == 3 and (pairs["difference"] >= 0).all()
    assert pairs.loc[("good", "bad"), "real"] and pairs.loc[("alike", "bad"), "real"]
    close = pairs.drop(index=[("good", "bad"), ("alike", "bad")]).iloc[0]
    assert not close["real"] and close["low"] < 0 < close["high"]
    whole = [
        float(scores(protocol_matrix(found[name].counts.sum(0), "ignore_border"))["miou"]) for name in ("good", "bad")
    ]
    assert pairs.loc[("good", "bad"), "difference"] == pytest.approx(whole[0] - whole[1])
    text = result_words.pair_sentences(pairs.reset_index())
    assert text.count("**Real**") == 2 and text.count("**Not shown**") == 1


def test_a_difference_that_another_seed_turns_round_is_not_real(study):
    labels = some_labels()
    steady = remade(labels, spoiled(labels, 0.2, 1), spoiled(labels, 0.2, 2))
    moody = remade(labels, spoiled(labels, 0.02, 3), spoiled(labels, 0.21, 4))
    pair = comparisons.paired_table({"steady": steady, "moody": moody}, study).iloc[0]
    assert pair["a"] == "moody" and pair["low"] > 0 and not pair["real"] and pair["seeds"] == 2
    assert "**Not sure**" in result_words.pair_sentences(pd.DataFrame([pair]))


def test_equal_masks_differ_in_nothing(study):
    labels = some_labels()
    found = {name: remade(labels, spoiled(labels, 0.1, 1)) for name in ("clip", "point")}
    pair = comparisons.paired_table(found, study)
    assert (pair["low"][0], pair["difference"][0], pair["high"][0]) == (0, 0, 0) and not pair["real"][0]
    assert "**None**" in result_words.pair_sentences(pair)


def test_among_many_pairs_a_difference_has_to_be_clearer(study):
    study, labels = dataclasses.replace(study, bootstrap_resamples=1000), some_labels()
    two = {"a": remade(labels, spoiled(labels, 0.1, 6)), "b": remade(labels, spoiled(labels, 0.108, 106))}
    alone = comparisons.paired_table(two, study).iloc[0]
    more = two | {f"more {seed}": remade(labels, spoiled(labels, 0.3, seed)) for seed in range(4)}
    among = comparisons.paired_table(more, study).set_index(["a", "b"]).loc[("a", "b")]
    assert alone["real"] and not among["real"] and among["low"] == alone["low"] > 0


def test_checkpoints_that_are_there_are_compared_without_training(study, data):
    splits = load_splits(study, progress=False)
    with pytest.raises(PetsegError, match="fewer than two finished checkpoints"):
        comparisons.compare_checkpoints(study, splits)
    for model in ("unet", "autoencoder_unet"):
        models.train(model, study, study.seeds[0], splits, progress=False)
    pairs = comparisons.compare_checkpoints(study, splits)
    assert set(pairs[["a", "b"]].iloc[0]) == {"unet", "autoencoder_unet"} and len(pairs) == 1
    assert pd.read_csv(study.figures_dir / "pairs.csv")["a"].tolist() == pairs["a"].tolist()
    assert len(pd.read_csv(study.figures_dir / "timing.csv")) == 2


def test_pairs_of_the_prompted_model_are_marked(study):
    labels = some_labels()
    found = {name: remade(labels, spoiled(labels, 0.1, 1)) for name in ("clip", "point", CLICKED)}
    assert comparisons.paired_table(found, study)["prompted"].all()
    assert list(comparisons.timing_table(found, study)["model"]) == ["clip", "point"]


def test_a_mistake_gets_the_right_word():
    def word(background, cat):  # rows: true background and true cat; columns as predicted
        return comparisons.what_went_wrong(np.array([background, cat, [0] * 3, [0] * 3, [9, 9, 9]]), 1)

    assert word([100, 0, 0], [2, 98, 0]) == "the outline only"
    assert word([100, 0, 0], [90, 10, 0]) == "not found"
    assert word([100, 0, 0], [40, 60, 0]) == "part of it missed"
    assert word([100, 0, 0], [10, 30, 60]) == "called a dog"
    assert word([100, 70, 9], [10, 80, 10]) == "background taken for pet"


def test_each_breed_is_scored_on_its_own_species(study):
    test = load_splits(study, progress=False)["test"]
    truth = published.perfect(np.array(test.labels))
    swapped = np.array([0, 2, 1], np.uint8)[truth]
    found = {"right": remade(test.labels, truth), "swapped": remade(test.labels, swapped)}
    table = comparisons.breed_table(found, test)
    assert table["pictures"].sum() == len(test) and (table["right"] == 1).all() and (table["swapped"] == 0).all()
    soup = BeautifulSoup(result_html.breeds_table(table), "html.parser")
    cells = [[one["data-value"] for one in row.find_all(["th", "td"])] for row in soup.select("tbody tr")]
    assert cells == [[breed, str(row["pictures"]), "1.0", "0.0"] for breed, row in table.iterrows()]
    counts = comparisons.mistake_counts(found, test)
    assert counts.loc["the outline only", "right"] == counts.loc["the other species", "swapped"] == len(test)


class Obedient(torch.nn.Module):
    """Takes whatever lies in the clicked half of the picture, and calls it a dog; without a click, nothing."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def encoder(self, images):
        return []

    def look(self, images, maps):
        dog = torch.ones_like(images[:, :1])
        return images, torch.cat([0 * dog, 0 * dog, dog], 1)

    def head(self, images, classes, prompts):
        chosen = (prompts[:, :1].amax((2, 3), keepdim=True) > 0.5).float()
        half = torch.arange(images.shape[3]) < images.shape[3] // 2
        return 2 * chosen * half.expand(images[:, :1].shape) - 1


def test_one_click_selects_and_the_selection_is_named(study):
    test = load_splits(study, progress=False)["test"]
    classes = comparisons.predict_clicked(Obedient(), test)
    half = classes.shape[2] // 2
    inside = np.asarray(test.labels) != PADDING
    assert (classes[:, :, :half][inside[:, :, :half]] == 2).all()
    assert (classes[:, :, half:] == 0).all() and (classes[~inside] == 0).all()


# Sentences, cards, the README and the notebook


def test_the_answer_is_made_of_the_records(sample_records):
    table = results.results_table(sample_records)
    pairs = pd.read_csv(ROOT / "figures" / "sample" / "pairs.csv")
    first, second, third = result_words.answer(table, sample_records, pairs, "drawn pictures")
    for _, row in result_words.ranked(table).iterrows():
        assert f"{row['mIoU']:.3f} [{row['mIoU low']:.3f}, {row['mIoU high']:.3f}]" in first
    assert f"all {len(pairs)} pairs compared, {pairs['real'].sum()} are real" in second
    clicks = next(record["clicks"] for record in sample_records if "clicks" in record)
    assert f"{clicks['iou@1']:.3f}" in third and f"{clicks['proposed']:.3f}" in third
    changed = json.loads(json.dumps(sample_records))
    for record in changed:
        record["scores"]["miou"] = 0.1234
    assert "0.123" in result_words.answer(results.results_table(changed), changed, pairs, "pictures")[0]
    assert result_words.answer(table, sample_records[:3], pd.DataFrame(), "pictures")[1].endswith("on this data.")


def test_the_lead_is_that_of_the_same_encoders(sample_records):
    other = [one | {"encoder": "lite:other"} for one in sample_records if one["model"] == "clip"]
    for one in other:
        one["scores"] = one["scores"] | {"miou": one["scores"]["miou"] + 0.01}
    pairs = pd.read_csv(ROOT / "figures" / "sample" / "pairs.csv")
    said = result_words.answer(results.results_table(sample_records + other), sample_records, pairs, "pictures")
    assert "clip on lite:other does best" in said[0] and "was not tested" in said[1]


def test_limits_name_the_encoder_and_say_that_it_is_not_clip(sample_records):
    text = result_words.limits(sample_records, pd.Series(["a", "a", "b", "c", "d"]))
    first = sample_records[0]
    assert "lite:efficientnet_lite0" in text and "No number here is CLIP's" in text
    assert f"{first['n_images']}, of {first['n_breeds']} breeds" in text and "make 80% of the pictures" in text


def test_every_weight_that_ships_has_a_card_to_read():
    photos = results.published("oxford-cpu")
    for name, card in cards.shipped_cards().items():
        text = cards.model_card(card, photos)
        assert f"{card['n_images']} photos with masks" in text and "**Limits:**" in text and "CC BY-SA 4.0" in text
        assert text.count("| ") > 20, f"no test scores in the card of {name}"
        assert not card["encoder"] or "**not CLIP**" in text


def test_what_clicks_buy_is_the_mean_over_the_seeds(sample_records):
    said = result_words.clicks_sentence(sample_records)
    records = json.loads(json.dumps(results.select(sample_records, protocol=results.PRIMARY)))
    record = next(one for one in records if "clicks" in one)
    other = json.loads(json.dumps(record)) | {"seed": 1}
    other["clicks"]["iou@1"] -= 0.2
    both = result_words.clicks_sentence([record, other, json.loads(json.dumps(other)) | {"study": "another"}])
    assert "mean of 2 seeds" in both and "mean of" not in said
    assert f"{record['clicks']['iou@1'] - 0.1:.3f} [" in both and f"{record['clicks']['iou@1']:.3f} [" in said


def test_robustness_is_summed_up_by_model():
    rows = [("unet", "blur", 0, 0.9), ("unet", "blur", 1, 0.8), ("unet", "jpeg", 100, 0.9), ("unet", "jpeg", 5, 0.4)]
    table = pd.DataFrame(rows, columns=["model", "corruption", "level", "value"]).assign(encoder="lite:x", n_images=5)
    dice = table.assign(score="dice", value=table["value"] + 0.11, low=table["value"] + 0.09)
    text = result_words.robustness_sentence(pd.concat([table.assign(score="mIoU"), dice]))
    assert (
        "0.900 on clean pictures, 0.600 on average at the worst level of 2 perturbations, 0.400 at worst (JPEG)" in text
    )
    assert "above 0.9 under 1 of them, and its 95 % interval under 0." in text and "lite:x; 5 pictures" in text


def test_the_readmes_numbers_are_made_of_the_committed_records():
    text = (ROOT / "README.md").read_text()
    names = [match[2] for match in readme.BLOCK.finditer(text)]
    assert sorted(names) == sorted(readme.blocks())
    assert readme.readme_with_results(text) == text, "make tables brings the README up to date"


def test_the_readme_types_no_score_between_the_blocks():
    rest = readme.BLOCK.sub("", (ROOT / "README.md").read_text())
    assert not re.findall(r"(?<![\d.])[01]\.\d{2,4}\b", rest)


@pytest.mark.parametrize("study", ["oxford-cpu", "oxford-gpu", "sample", "shipped"])
def test_without_its_records_the_readme_cannot_be_made(study, monkeypatch):
    before = results.published
    monkeypatch.setattr(readme, "published", lambda name: [] if name == study else before(name))
    with pytest.raises((IndexError, KeyError)):
        readme.blocks()


def test_twenty_lines_add_a_model(study, tmp_path):
    text = (ROOT / "README.md").read_text()
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "training.fit" in block]
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    script = tmp_path / "mine.py"
    script.write_text(code)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PETSEG_STUDY", "smoke")
        runpy.run_path(str(script))
    splits = load_splits(study, progress=False)
    table = results.publish(study, splits)
    assert list(table["model"].unique()) == ["mine"] and table["mIoU"].between(0, 1).all()
    assert "mine" in result_html.protocol_tabs(table, "A study")


def notebook() -> nbformat.NotebookNode:
    return nbformat.read(ROOT / "notebooks" / "07_results.ipynb", as_version=4)


def without_costs(html: str) -> str:
    """Tables without their last column: times and memory, which are others each time that somebody runs the study."""
    soup = BeautifulSoup(html, "html.parser")
    for row in soup.select("tbody tr"):
        row.find_all("td")[-1].decompose()
    return str(soup)


def test_the_notebooks_tables_are_made_of_the_committed_records():
    shown = [
        output["data"]["text/html"]
        for cell in notebook().cells
        for output in cell.get("outputs", [])
        if 'name="Study ' in output.get("data", {}).get("text/html", "")
    ]
    wanted = (("sample", "all"), ("oxford-cpu", "all"), ("oxford-cpu", "small breeds"))
    wanted += (("oxford-gpu", "all"), ("oxford-gpu", "small breeds"))
    tables = [results.results_table(results.published(name), subset=subset) for name, subset in wanted]
    for html, table in zip(shown, tables, strict=True):
        about = BeautifulSoup(html, "html.parser").details["name"]
        assert without_costs(html) == without_costs(str(result_html.protocol_tabs(table, about))), about


def test_the_notebooks_sentences_are_made_of_the_committed_records(sample_records):
    said = "\n".join(
        output["data"]["text/markdown"]
        for cell in notebook().cells
        for output in cell.get("outputs", [])
        if "text/markdown" in output.get("data", {})
    )
    pairs = pd.read_csv(ROOT / "figures" / "sample" / "pairs.csv")
    for sentence in result_words.answer(results.results_table(sample_records), sample_records, pairs, "drawn pictures"):
        assert sentence in said
    assert (
        result_words.limits(results.published("oxford-cpu"), cards.committed_breeds(ROOT / "figures/oxford-cpu"))
        in said
    )


def test_the_notebooks_prose_types_no_score():
    for cell in notebook().cells:
        if cell.cell_type == "markdown":
            assert not re.findall(r"(?<![\d.])0\.\d{3,4}\b", cell.source), cell.source


# Running again


def test_running_again_is_compared_with_the_committed_table():
    then = results.results_table(results.published("sample"))
    assert repeat.differences(then, then, 0) == []
    moved = then.assign(mIoU=then["mIoU"] + 0.9 * repeat.TOLERANCE)
    assert repeat.differences(moved, then) == [] and len(repeat.differences(moved, then, 0)) == len(then)
    far = then.assign(mIoU=then["mIoU"] + 1.1 * repeat.TOLERANCE)
    assert len(repeat.differences(far, then)) == len(then) and "mIoU is" in repeat.differences(far, then)[0]
    assert "n_images is" in repeat.differences(then.assign(n_images=1), then)[0]
    assert "only in the committed table" in repeat.differences(then.iloc[1:], then)[0]
    assert "not in the committed table" in repeat.differences(then, then.iloc[1:])[0]


def test_the_committed_tables_are_those_of_the_committed_records():
    for name in ("sample", "oxford-cpu", "oxford-gpu", "shipped"):
        folder, records = ROOT / "figures" / name, results.published(name)
        written = pd.read_csv(folder / "results.csv")
        assert repeat.differences(results.results_table(records), written, 0) == []
        assert (folder / "results.md").read_text(encoding="utf-8") == results.report_tables(records)
        assert load_study(name).name == name


def test_of_rare_breeds_04_says_what_was_cross_validated():
    book = nbformat.read(ROOT / "notebooks" / "04_clip_decoder.ipynb", as_version=4)
    outputs = [output.get("data", {}) for cell in book.cells for output in cell.get("outputs", [])]
    table = pd.read_csv(ROOT / "figures" / "oxford-cpu" / "small_breeds.csv")
    assert result_words.rare_breeds_sentences(table) in [output.get("text/markdown") for output in outputs]
    rows = [("first", 0.9, 0.85, 0.95, 0, 0, 0, 0.01, 9, 3), ("less", 0.8, 0.7, 0.9, -0.1, -0.2, -0.05, 0.2, 9, 3)]
    rows += [("more", 0.92, 0.9, 0.94, 0.02, 0.01, 0.03, 0, 9, 3), ("same", 0.9, 0.8, 1, 0, -0.1, 0.1, 0, 9, 3)]
    said = result_words.rare_breeds_sentences(pd.DataFrame(rows, columns=[*table.columns[:10]]))
    assert "A decoder first reaches mIoU **0.900 [0.850, 0.950]** on 9 pictures, each held out in one of 3" in said
    assert "folds. 1.0% of the pets' pixels" in said
    assert "Less: -0.100 [-0.200, -0.050], worse." in said and "More: +0.020 [+0.010, +0.030], better." in said
    assert said.endswith("Same: +0.000 [-0.100, +0.100], no difference shown.")


def test_the_unets_sentence_is_that_of_its_runs():
    """With the numbers that are committed, and the caution that the runs call for."""
    source = (ROOT / "notebooks" / "02_unet.ipynb").read_text(encoding="utf-8")
    table = pd.read_csv(ROOT / "figures" / "oxford-gpu" / "unet.csv")
    assert json.dumps(result_words.length_sentence(table))[1:-1] in source
    runs = [(8, 2, 0.5), (8, 2, 0.6), (8, 9, 0.7), (8, 9, 0.8), (32, 9, 0.72), (32, 9, 0.9)]
    said = result_words.length_sentence(pd.DataFrame(runs, columns=["width", "epochs", "miou"]))
    assert "9 epochs in place of 2 are worth **+0.200** mIoU to the U-Net of 8 channels, in every run." in said
    assert said.endswith("32 channels in place of 8 are then worth +0.060, though not in every run.")


def test_how_much_of_the_distance_longer_training_leaves_is_said_as_measured():
    both = [results.published(name) for name in ("oxford-cpu", "oxford-gpu")]
    said = result_words.budget_sentence(*both)
    assert said in (ROOT / "README.md").read_text(encoding="utf-8")
    assert said in (ROOT / "notebooks" / "07_results.ipynb").read_text(encoding="utf-8")
    tables = [results.results_table(results.select(one, protocol=results.PRIMARY)).set_index("model") for one in both]
    gaps = [table.loc["clip", "mIoU"] - table.loc["unet", "mIoU"] for table in tables]
    assert said.endswith("distance of {:.3f} between the two, {:.3f} is left.".format(*gaps))
    here, there = [
        next(record["trained_on"]["settings"] for record in one if record["model"] == "clip") for one in both
    ]
    assert here | {"mixed_precision": ""} == there | {"mixed_precision": ""}  # "with the same settings there as here"


@pytest.mark.parametrize(
    "book, study, models",
    [
        ("02_unet", "oxford-cpu", {"unet"}),
        ("02_unet", "oxford-gpu", {"unet"}),
        ("03_autoencoder_pretraining", "oxford-cpu", {"unet", "autoencoder_unet"}),
        ("04_clip_decoder", "oxford-cpu", {"clip", "clip_selftrained"}),
    ],
)
def test_a_notebooks_tables_of_photos_are_those_of_the_committed_records(book, study, models):
    cells = nbformat.read(ROOT / "notebooks" / f"{book}.ipynb", as_version=4).cells
    outputs = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
    records = [record for record in results.published(study) if record["model"] in models]
    assert results.report_tables(records) in [output.get("text/markdown") for output in outputs]


def test_notebook_04_says_of_each_encoder_what_its_own_row_says():
    """Whatever the order of the rows, and with the numbers that are committed."""
    table = pd.read_csv(ROOT / "figures" / "oxford-cpu" / "encoders.csv")
    said = result_words.encoder_sentence(table)
    assert result_words.encoder_sentence(table[::-1]) == said
    source = (ROOT / "notebooks" / "04_clip_decoder.ipynb").read_text(encoding="utf-8")
    assert json.dumps(said)[1:-1] in source
    lite, rows = "lite:efficientnet_lite0", [("lite0", 0.8, 10), ("lite0+2x", 0.85, 40), ("lite2", 0.7, 20)]
    rows = [(f"lite:efficientnet_{name}", "mirrored pictures", miou, ms) for name, miou, ms in rows]
    rows += [("lite:efficientnet_lite2+2x", "mirrored pictures", 0.9, 60), (f"{lite}+2x", "none", 0.83, 40)]
    said = result_words.encoder_sentence(pd.DataFrame(rows, columns=["encoder", "cache", "miou", "encoding_ms"]))
    assert "size is worth **+0.050**, for 4.0 times" in said and "encoder is worth -0.100 by itself, for 2.0" in said
    assert "**+0.100** with that look, for 6.0 times" in said and said.endswith("worth -0.020, against cached ones.")


@pytest.mark.parametrize(
    ("number", "name", "read"),
    [
        ("04_clip_decoder", "looks", lambda path: pd.read_csv(path, index_col="seed").round(3)),
        ("05_point_prompt", "shipped", lambda path: results.clicks_table(results.published(path.stem))),
        ("07_results", "shipped", lambda path: results.clicks_table(results.published(path.stem))),
        ("06_robustness", "noise", lambda path: pd.read_csv(path).set_index("what").round(3)),
        ("06_robustness", "calibration", lambda path: pd.read_csv(path, index_col=0).round(3)),
        ("06_robustness", "elsewhere", lambda path: other_data.by_set(pd.read_csv(path))),
    ],
)
def test_tables_of_photos_show_the_committed_files(number, name, read):
    book = nbformat.read(ROOT / "notebooks" / f"{number}.ipynb", 4)
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    shown = [output["data"].get("text/html") for output in outputs if "data" in output]
    with pd.option_context("display.max_columns", 20):  # as in a notebook, whatever the width of this terminal
        assert read(ROOT / "figures" / "oxford-cpu" / f"{name}.csv")._repr_html_() in shown


def test_the_pairs_of_photos_in_07_are_those_of_the_file_and_agree_with_the_table():
    pairs = pd.read_csv(ROOT / "figures" / "oxford-cpu" / "pairs.csv")
    book = nbformat.read(ROOT / "notebooks" / "07_results.ipynb", 4)
    outputs = [output.get("data", {}) for cell in book.cells for output in cell.get("outputs", [])]
    assert result_words.pair_sentences(pairs) in [output.get("text/markdown") for output in outputs]
    table = results.results_table(results.select(results.published("oxford-cpu"), protocol=results.PRIMARY))
    scored = table.set_index("model")["mIoU"]
    whole = pairs[pairs["a"].isin(scored.index) & pairs["b"].isin(scored.index)]  # a click's answer has no row there
    assert len(whole) == 10
    gaps = scored[whole["a"]].to_numpy() - scored[whole["b"]].to_numpy()
    assert np.abs(whole["difference"] - gaps).max() < 5e-4  # pairs pool the seeds' counts, the table takes their mean


def test_what_06_says_of_photos_is_what_the_sweep_found():
    photos = pd.read_csv(ROOT / "figures" / "oxford-cpu" / "robustness.csv")
    loss, found = robustness_tables.relative_loss(photos), robustness_tables.verdicts(photos)
    said = [robustness_tables.loss_sentences(loss), robustness_tables.verdict_sentences(photos, found)]
    book = nbformat.read(ROOT / "notebooks" / "06_robustness.ipynb", 4)
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    shown = [output["data"].get("text/markdown") for output in outputs if "data" in output]
    assert all(sentence in shown for sentence in said)
