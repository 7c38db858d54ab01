"""What the committed notebooks show is made of the committed records and files."""

import json
import re
from types import SimpleNamespace

import nbformat
import pandas as pd
import pytest
from bs4 import BeautifulSoup

from petseg_utils.experiments import (
    calibration,
    elsewhere,
    encoder_variants,
    features,
    few_labels,
    no_pet,
    other_tools,
    pretraining,
    small_breeds,
    validation_gap,
)
from petseg_utils.experiments.robustness import noise_training
from petseg_utils.experiments.robustness import tables as robustness_tables
from petseg_utils.experiments.study_records import committed_records
from petseg_utils.models.cards import shipped_cards
from petseg_utils.models.names import titled
from petseg_utils.report import sentences
from petseg_utils.report.tables import protocol_tabs
from petseg_utils.scores import results
from petseg_utils.study import ROOT

PHOTOS = ROOT / "figures" / "oxford-cpu"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
STUDIES = [path.parent.name for path in sorted((ROOT / "figures").glob("*/records.jsonl"))]


def shown(number: str, kind: str) -> list[str]:
    """The outputs of one kind, such as ``text/html``, of the notebook with a number."""
    (path,) = (path for path in NOTEBOOKS if path.name.startswith(number))
    cells = nbformat.read(path, as_version=4).cells
    outputs = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
    return [data[kind] for data in outputs if kind in data]


def without_costs(html: str) -> str:
    """Tables without their last column: times, which are others each time that somebody runs the study."""
    soup = BeautifulSoup(html, "html.parser")
    for row in soup.select("tbody tr"):
        row.find_all("td")[-1].decompose()
    return str(soup)


def test_the_results_of_07_are_those_of_the_records():
    wanted = [("sample", "all")]
    wanted += [(study, subset) for study in ("oxford-cpu", "oxford-gpu") for subset in ("all", "small breeds")]
    displayed = [html for html in shown("07", "text/html") if 'name="Study ' in html]
    for html, (study, subset) in zip(displayed, wanted, strict=True):
        subject = BeautifulSoup(html, "html.parser").details["name"]
        table = results.results_table(committed_records(study), subset=subset)
        tabs = str(protocol_tabs(table, subject, opened=subset == "all"))
        assert without_costs(html) == without_costs(tabs), subject


def test_the_sentences_of_07_are_those_of_the_records():
    said = "\n".join(shown("07", "text/markdown"))
    records, photos = (committed_records(study) for study in ("sample", "oxford-cpu"))
    own_pairs = pd.read_csv(ROOT / "figures" / "sample" / "pairs.csv")
    of_photos = results.results_table(photos), photos, pd.read_csv(PHOTOS / "pairs.csv"), "photos"
    for sentence in sentences.answer(results.results_table(records), records, own_pairs, "drawn pictures"):
        assert sentence in said
    for sentence in sentences.answer(*of_photos):
        assert sentence in said
    assert sentences.budget_sentence(photos, committed_records("oxford-gpu")) in said
    assert sentences.limits(photos, pd.read_csv(PHOTOS / "pictures.csv")["breed"]) in said
    assert other_tools.tools_in_words(other_tools.read_other_tools()) in said
    peak = shipped_cards()["decoder"]["peak"]
    assert no_pet.peaks_in_words(pd.read_csv(no_pet.PEAKS_COMPARED), peak) in said


def test_the_drawn_pictures_pairs_of_07_are_those_of_the_file():
    said = "\n".join(shown("07", "text/markdown"))
    pairs = pd.read_csv(ROOT / "figures" / "sample" / "pairs.csv")
    for sentence, (_, pair) in zip(sentences.pair_sentences(pairs).splitlines(), pairs.iterrows(), strict=False):
        models, verdict = re.match(r"(\* .* over .*: ).*?(\*\*.*)", sentence).groups()
        numbers = re.search(re.escape(models) + r"(\S+) \[(\S+), (\S+)\]\. " + re.escape(verdict), said)
        assert numbers, sentence
        told = [float(number) for number in numbers.groups()]
        assert told == pytest.approx(pair[["difference", "low", "high"]].tolist(), abs=6e-4)  # both are rounded


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_prose_types_a_score(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown" and path.name.startswith("07"):
            assert not re.findall(r"(?<![\d.])0\.\d{3,4}\b", cell.source), cell.source


@pytest.mark.parametrize(
    ("number", "study", "models"),
    [
        ("02", "oxford-cpu", ["unet"]),
        ("02", "oxford-gpu", ["unet"]),
        ("03", "oxford-cpu", ["unet", "autoencoder_unet"]),
        ("04", "oxford-cpu", ["decoder", "decoder_selftrained"]),
    ],
)
def test_a_notebooks_tables_of_photos_are_those_of_the_records(number, study, models):
    assert results.report_tables(committed_records(study, *models)) in shown(number, "text/markdown")


@pytest.mark.parametrize(
    ("number", "file", "in_words"),
    [
        ("03", "sample/pretraining.csv", pretraining.variants_in_words),
        ("03", "oxford-cpu/pretraining.csv", pretraining.variants_in_words),
        ("04", "sample/labels.csv", few_labels.labels_in_words),
        ("04", "oxford-cpu/labels.csv", few_labels.labels_in_words),
        ("04", "sample/ablation.csv", features.ablation_in_words),
        ("04", "oxford-cpu/ablation.csv", features.ablation_in_words),
        ("04", "oxford-cpu/encoders.csv", encoder_variants.encoders_in_words),
        ("04", "oxford-cpu/small_breeds.csv", small_breeds.breeds_in_words),
    ],
)
def test_what_03_and_04_say_is_what_the_committed_files_say(number, file, in_words):
    assert in_words(pd.read_csv(ROOT / "figures" / file)) in "\n".join(shown(number, "text/markdown"))


@pytest.mark.parametrize(
    ("number", "name", "read"),
    [
        ("05", "", lambda _: results.clicks_table([*committed_records("oxford-cpu"), *committed_records("shipped")])),
        ("07", "", lambda _: elsewhere.home_and_elsewhere(elsewhere.shipped_records())),
        ("07", "", lambda _: elsewhere.away_from_home(elsewhere.shipped_records())),
        ("07", "", lambda _: elsewhere.where_it_fails(elsewhere.shipped_records())),
        ("06", "noise", lambda path: pd.read_csv(path).set_index("what").round(3)),
        ("06", "calibration", lambda path: pd.read_csv(path, index_col=0).rename(titled).round(3)),
        ("06", "elsewhere", lambda path: elsewhere.by_set(pd.read_csv(path))),
    ],
)
def test_tables_of_photos_show_the_committed_files(number, name, read):
    with pd.option_context("display.max_columns", 20):  # as in a notebook, whatever the width of this terminal
        assert read(PHOTOS / f"{name}.csv")._repr_html_() in shown(number, "text/html")


def test_what_02_says_of_longer_and_wider_training_is_what_the_file_holds():
    runs = pd.read_csv(ROOT / "figures" / "oxford-gpu" / "unet.csv")
    by_length = runs.groupby(["width", "epochs"])["miou"].agg(["mean", "min", "max", "count"])
    same = runs.groupby("epochs")[["batch_size", "learning_rate", "precision"]].first()
    assert by_length.round(3).join(same)._repr_html_() in shown("02", "text/html")
    brief, longer, wider = by_length["mean"]
    (said,) = (
        text for text in shown("02", "text/markdown") if "epochs in place of" in text and "channels of" not in text
    )
    assert f"**{longer - brief:+.3f}**" in said and f"change it by {wider - longer:+.3f}" in said


def test_the_pairs_of_photos_in_07_are_those_of_the_file_and_agree_with_the_table():
    pairs = pd.read_csv(PHOTOS / "pairs.csv")
    assert sentences.pair_sentences(pairs) in shown("07", "text/markdown")
    records = [record for record in committed_records("oxford-cpu") if "stale" not in record]
    scored = results.results_table(results.select(records, protocol=results.PRIMARY)).set_index("model")["mIoU"]
    pairs = pairs[pairs["a"].isin(scored.index) & pairs["b"].isin(scored.index)]  # a click's answer has no row there
    n_models = len(set(pairs["a"]) | set(pairs["b"]))
    assert n_models >= 4 and len(pairs) == n_models * (n_models - 1) // 2
    gaps = scored[pairs["a"]].to_numpy() - scored[pairs["b"]].to_numpy()
    assert (pairs["difference"] - gaps).abs().max() < 5e-4  # pairs pool the seeds' counts, the table takes their mean


def of_06(folder) -> dict[str, str]:
    """What notebook 06 says of a study, by the file that it is made of."""
    levels, noise = pd.read_csv(folder / "robustness.csv"), pd.read_csv(folder / "noise.csv")
    calibrated = pd.read_csv(folder / "calibration.csv", index_col=0)
    return {
        "losses": robustness_tables.loss_sentences(robustness_tables.relative_loss(levels)),
        "claim": robustness_tables.verdict_sentences(levels, robustness_tables.verdicts(levels)),
        "noise": noise_training.noise_sentence(noise),
        "calibration": calibration.calibration_sentences(calibrated),
    }


@pytest.mark.parametrize("study", ["sample", "oxford-cpu"])
def test_what_06_says_of_a_study_is_what_its_files_hold(study):
    said = "\n".join(shown("06", "text/markdown"))
    for what, sentence in of_06(ROOT / "figures" / study).items():
        assert sentence in said, what


def test_the_drawn_pictures_calibration_of_06_is_that_of_the_file():
    html, _ = (html for html in shown("06", "text/html") if "finds failures" in html)  # the other one is of photos
    table = pd.read_csv(ROOT / "figures" / "sample" / "calibration.csv", index_col=0).rename(titled)
    rows = {row.th.text: row.find_all("td") for row in BeautifulSoup(html, "html.parser").select("tbody tr")}
    assert list(rows) == list(table.index)
    for model, cells in rows.items():  # both are rounded
        assert [float(cell.text) for cell in cells] == pytest.approx(table.loc[model].tolist(), abs=6e-4), model


def test_what_06_says_of_photos_from_elsewhere_is_what_the_file_holds():
    assert elsewhere.set_sentences(pd.read_csv(PHOTOS / "elsewhere.csv")) in shown("06", "text/markdown")


def test_07_says_why_validation_lies_below_test():
    table = pd.read_csv(PHOTOS / "breeds.csv")
    assert validation_gap.gap_sentence(table) in shown("07", "text/markdown")
    records = results.select(committed_records("oxford-cpu", "decoder"), protocol=results.PRIMARY)
    of_test = validation_gap.miou_of(table[table["split"] == "test"])
    assert abs(of_test - results.results_table(records)["mIoU"].iloc[0]) < 5e-4  # seeds pooled, and their mean
    validation, test = (table.loc[table["split"] == split] for split in validation_gap.PARTS)
    pictures = pd.read_csv(PHOTOS / "pictures.csv")["split"].value_counts()
    assert (validation["pictures"].sum(), test["pictures"].sum()) == (pictures["validation"], pictures["test"])


def test_05_says_of_photos_which_weights_a_number_is_of():
    said = "\n".join(shown("05", "text/markdown"))
    for study in ("oxford-cpu", "shipped"):
        assert f"Study {study}: {sentences.clicks_sentence(committed_records(study))}" in said


@pytest.mark.parametrize("study", STUDIES)
def test_tables_beside_the_figures_are_made_of_the_records(study, tmp_path):
    folder, records = ROOT / "figures" / study, committed_records(study)
    results.write_tables(tmp_path, records)
    for name in ("results.csv", "results.md"):
        assert (tmp_path / name).read_text(encoding="utf-8") == (folder / name).read_text(encoding="utf-8")
    if (folder / "timing.csv").is_file():
        table = results.results_table(results.select(records, protocol=results.PRIMARY)).set_index("model")
        for _, row in pd.read_csv(folder / "timing.csv").iterrows():
            assert abs(row["mIoU"] - table["mIoU"][row["model"]]) < 1e-3  # from masks made anew


@pytest.mark.parametrize("study", STUDIES)
def test_comparisons_and_perturbations_are_of_the_models_that_the_records_are_of(study):
    """Rows of a former version of a model once stood beside records of the present one, unseen."""
    folder = ROOT / "figures" / study
    records = [record for record in committed_records(study) if "stale" not in record]
    versions = {record["model"]: record["trained_on"].get("version") or 1 for record in records}
    weights = {record["model"]: record["parameters"]["total"] for record in records}
    compared: list[tuple[str, int]] = []
    if (folder / "pairs.csv").is_file():
        pairs = pd.read_csv(folder / "pairs.csv")
        compared += [pair for side in "ab" for pair in zip(pairs[side], pairs[f"recipe {side}"], strict=True)]
    if (folder / "robustness.jsonl").is_file():
        lines = (folder / "robustness.jsonl").read_text(encoding="utf-8").splitlines()
        swept = [json.loads(line) for line in lines]
        compared += [(line["model"], line.get("recipe", 1)) for line in swept]
        assert {line["model"] for line in swept} == set(pd.read_csv(folder / "robustness.csv")["model"])
    for model, version in compared:
        assert version == versions[model.partition(",")[0].partition("+")[0]], model
    if (folder / "timing.csv").is_file():
        timing = pd.read_csv(folder / "timing.csv").set_index("model")["parameters"]
        assert timing.to_dict() == {model: weights[model] for model in timing.index}


def test_the_clicks_that_people_make_help_on_photos_of_every_source():
    records = [record for record in elsewhere.shipped_records() if "clicks" in record]
    assert {record["source"] for record in records} == {"Oxford test", "cats outdoors", "COCO's cats and dogs"}
    for record in records:
        for name in ("missed@1", "excess@1"):
            clicks = record["clicks"][name]
            assert clicks["after"] > clicks["before"] and clicks["worse"] < 0.05, (record["source"], name)


@pytest.mark.parametrize(
    ("name", "drawn", "told"), [("oxford", False, 2), ("oxford-cpu", False, 1), ("sample", True, 1)]
)
def test_07_concludes_with_this_studys_answer_where_it_has_photos(name, drawn, told):
    """The cell is run on made-up answers, for the committed output is of a study that draws its pictures."""
    (path,) = (path for path in NOTEBOOKS if path.name.startswith("07"))
    (cell,) = (cell for cell in nbformat.read(path, as_version=4).cells if cell.id == "r59b")
    said: list[str] = []
    answers = SimpleNamespace(answer=lambda table, *_: [f"The best of {table}."])
    study = SimpleNamespace(name=name, draws_its_data=drawn)
    names = {"table": "this run", "real": "the records", "say": said.append, "sentences": answers, "study": study}
    exec(cell.source, names | dict.fromkeys(("records", "pairs", "kind", "photos", "photo_pairs")))
    assert len(said) == told
    source = "the records" if drawn else "this run"
    assert said[0] == f"In study `{'oxford-cpu' if drawn else name}`:\n\n* The best of {source}."


def test_no_notebook_calls_the_committed_studys_photos_the_photos():
    """Whoever runs the study on photos has others, and their numbers are not those of the committed records."""
    for path in NOTEBOOKS:
        cells = nbformat.read(path, as_version=4).cells
        headings = [
            line for cell in cells for line in cell.source.splitlines() if re.match("#+ .*on photos", line, re.I)
        ]
        assert headings == [], path.name
        page = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        assert not re.search(r"On photos[:,]? |The photos measured|never shown", page), path.name
