"""Sentences say what the records say, and change with them."""

import json

import pandas as pd
import pytest

from petseg_utils.experiments.elsewhere import clicked_records, shipped_records
from petseg_utils.experiments.robustness.tables import relative_loss
from petseg_utils.experiments.study_records import committed_records
from petseg_utils.models.names import titled
from petseg_utils.report import sentences
from petseg_utils.scores import results
from petseg_utils.study import ROOT


def test_the_answer_is_made_of_the_records(sample_records):
    table = results.results_table(sample_records)
    pairs = pd.read_csv(ROOT / "figures" / "sample" / "pairs.csv")
    first, second, third = sentences.answer(table, sample_records, pairs, "drawn pictures")
    for _, row in sentences.ranked(table).iterrows():
        assert f"{row['mIoU']:.3f} [{row['mIoU low']:.3f}, {row['mIoU high']:.3f}]" in first
    assert f"the {len(pairs)} pairs listed, {pairs['real'].sum()} are shown to differ" in second
    clicks = next(record["clicks"] for record in sample_records if "clicks" in record)
    assert f"{clicks['iou@1']:.3f}" in third and f"{clicks['proposed']:.3f}" in third
    changed = json.loads(json.dumps(sample_records))
    for record in changed:
        record["scores"]["miou"] = 0.1234
    assert "0.123" in sentences.answer(results.results_table(changed), changed, pairs, "pictures")[0]
    assert sentences.answer(table, sample_records[:3], pd.DataFrame(), "pictures")[1].endswith("on this data.")


def test_one_model_leads_nobody_and_the_helped_one_is_no_answer(sample_records):
    for models, said in ((["unet"], "There is nothing to compare it with."), ([results.PROMPTED], None)):
        records = [record for record in sample_records if record["model"] in models]
        answer = sentences.answer(results.results_table(records), records, pd.DataFrame(), "pictures")
        assert answer[1:2] == ([said] if said else [])


def test_the_lead_is_that_of_the_same_encoders(sample_records):
    other = [record | {"encoder": "lite:other"} for record in sample_records if record["model"] == "decoder"]
    for record in other:
        record["scores"] = record["scores"] | {"miou": record["scores"]["miou"] + 0.01}
    pairs = pd.read_csv(ROOT / "figures" / "sample" / "pairs.csv")
    said = sentences.answer(results.results_table(sample_records + other), sample_records, pairs, "pictures")
    assert "the decoder on lite:other is best" in said[0] and "was not tested" in said[1]


def test_limits_name_the_encoder_and_say_that_it_is_not_clip(sample_records):
    text = sentences.limits(sample_records, pd.Series(["a", "a", "b", "c", "d"]))
    first = sample_records[0]
    assert "lite:efficientnet_lite0" in text and "No number here is CLIP's" in text
    assert f"{first['n_images']}, of {first['n_breeds']} breeds" in text and "make 80% of the pictures" in text


def test_few_pictures_of_a_breed_are_a_limit_only_where_they_are_few(sample_records):
    breeds, said = pd.Series(["a", "b"]), "Some have fewer than 10 test pictures."
    assert said in sentences.limits(sample_records, breeds)  # 120 of 32 breeds
    many = [record | {"n_images": 3669, "n_breeds": 37} for record in sample_records]
    assert said not in sentences.limits(many, breeds)
    assert said in sentences.limits([*many, many[0] | {"subset": "small breeds"}], breeds)


def test_what_clicks_buy_is_the_mean_over_the_seeds(sample_records):
    said = sentences.clicks_sentence(sample_records)
    records = json.loads(json.dumps(results.select(sample_records, protocol=results.PRIMARY)))
    record = next(record for record in records if "clicks" in record)
    other = json.loads(json.dumps(record)) | {"seed": 1}
    other["clicks"]["iou@1"] -= 0.2
    both = sentences.clicks_sentence([record, other, json.loads(json.dumps(other)) | {"study": "another"}])
    assert "mean of 2 seeds" in both and "mean of" not in said
    assert f"{record['clicks']['iou@1'] - 0.1:.3f} [" in both and f"{record['clicks']['iou@1']:.3f} [" in said


def test_how_much_of_the_distance_longer_training_leaves_is_said_as_measured():
    both = [committed_records(name) for name in ("oxford-cpu", "oxford-gpu")]
    said = sentences.budget_sentence(*both)
    assert said in (ROOT / "README.md").read_text(encoding="utf-8")
    tables = [
        results.results_table(results.select(records, protocol=results.PRIMARY)).set_index("model") for records in both
    ]
    gaps = [table.loc["decoder", "mIoU"] - table.loc["unet", "mIoU"] for table in tables]
    assert said.endswith("that U-Net by {:.3f}, and of the U-Net trained here by {:.3f}.".format(*reversed(gaps)))
    here, there = [
        next(record["trained_on"]["settings"] for record in records if record["model"] == "decoder") for records in both
    ]
    assert here | {"mixed_precision": ""} == there | {"mixed_precision": ""}  # "with the settings that it has here"


def some_pairs(**changes) -> pd.DataFrame:
    """A pair of models whose difference is real, or what the changes make of it."""
    pair = {"a": "decoder", "b": "unet", "encoder a": "lite:x", "encoder b": None, "difference": 0.1, "low": 0.05}
    pair |= {
        "high": 0.15,
        "real": True,
        "every seed": True,
        "compared": 6,
        "prompted": False,
        "pictures": 9,
        "seeds": 1,
    }
    return pd.DataFrame([pair | changes])


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, "**Shown**"),
        ({"real": False}, "**Not sure**"),
        ({"real": False, "low": -0.01}, "**Not shown**"),
        ({"real": False, "low": 0.0, "difference": 0.0, "high": 0.0}, "**None**"),
    ],
)
def test_each_pair_gets_its_verdict(changes, word):
    said = sentences.pair_sentences(some_pairs(**changes))
    assert word in said and said.startswith("* decoder over U-Net: ") and "Compared: one seed of each model." in said


def test_a_verdict_names_all_pairs_that_it_allows_for_and_the_click_model_after_its_click():
    said = sentences.pair_sentences(some_pairs(a="point, one click", real=False, compared=15, seeds=2))
    assert (
        said.startswith("* click model after one click over U-Net: ") and "at the level for 15 pairs holds zero" in said
    )
    assert "2 seeds of each model" in said and "it leads with every seed" in said
    moody = sentences.pair_sentences(some_pairs(real=False, **{"every seed": False}))
    assert "the other one leads with one seed at least" in moody and "holds zero" not in moody


def test_the_prompted_model_never_leads(sample_records):
    best = json.loads(json.dumps(sample_records))
    for record in best:
        if record["model"] == results.PROMPTED:
            record["scores"]["miou"] = 0.999
    table = results.results_table(best)
    first = sentences.answer(table, best, pd.DataFrame(), "pictures")[0]
    leader = sentences.ranked(table).iloc[0]
    assert first.startswith(f"Without clicks, the {titled(leader['model'], leader['encoder'])} is best on")
    assert "click model" not in first


def test_what_was_not_measured_follows_from_the_records(sample_records):
    drawn = sentences.not_measured(sample_records)
    assert drawn.startswith("Not measured at all: CLIP's features, the full data set, tools from elsewhere")
    on_clip = [
        record | {"encoder": record["encoder"] and "clip:ViT-B-16-quickgelu/openai@0123456789ab", "n_images": 3669}
        for record in sample_records
    ]
    assert sentences.not_measured(on_clip).startswith("Not measured at all: tools from elsewhere")
    assert "(ImageNet has breeds as classes)" in drawn
    assert "(CLIP's photos are of the web)" in sentences.not_measured(on_clip)
    random = [record | {"encoder": "clip:ViT-B-16/random"} for record in sample_records]
    assert "CLIP's features" in sentences.not_measured(random)


def test_what_is_said_of_photos_follows_their_records():
    records = shipped_records()
    alone, clicked = sentences.home_sentences(records)
    assert "it is less: " in alone and clicked.startswith("Clicks raise it")
    for record in clicked_records(records):
        assert f"{record['clicks']['proposed']:.3f} [" in alone and f"{record['clicks']['iou@3']:.3f}" in clicked
    turned = json.loads(json.dumps(records))
    for record in turned:
        if "clicks" in record:
            record["clicks"]["iou@3"] = record["clicks"]["proposed"] - 0.1
            record["clicks"]["ci95"]["proposed"] = [0.0, 1.0]
        for size in record["by_size"].values():
            size["iou"] = 1 - size["iou"]
    alone, clicked = sentences.home_sentences(turned)
    assert "less" not in alone and clicked.startswith("Clicks do not always raise it")
    assert "Small pets are harder: " in sentences.size_sentence(records)
    assert "Small pets are no harder: " in sentences.size_sentence(turned)


def test_the_perturbations_that_cost_most_are_named_in_their_order():
    curves = pd.read_csv(ROOT / "figures" / "oxford-cpu" / "robustness.csv")
    loss = relative_loss(curves).loc["decoder"]
    said = sentences.loss_sentence(curves)
    assert f"{loss.max():.0%}" in said.split(" cost the decoder")[0].split(",")[1] and f"Of {len(loss)} " in said
    harmed = (curves["corruption"] == "brightness_up") & (curves["level"] > 30)
    worse = curves.assign(value=curves["value"].where(~harmed, 0.01))
    assert "brighter (" in sentences.loss_sentence(worse).split(" cost the decoder")[0]


def test_the_first_sentences_follow_the_records():
    photos, thorough, shipped = committed_records("oxford-cpu"), committed_records("oxford-gpu"), shipped_records()
    pairs = pd.read_csv(ROOT / "figures" / "oxford-cpu" / "pairs.csv")
    breeds = pd.Series(["a", "a", "b", "c", "d"])
    said = sentences.summary_sentences(photos, thorough, shipped, pairs, breeds)
    rows = results.results_table(results.select(photos, protocol=results.PRIMARY)).set_index("model")["mIoU"]
    assert f"a small decoder on a pre-trained network wins clearly: mIoU {rows.max():.2f}; " in said[0]
    assert f"a U-Net from scratch reaches {rows['unet']:.2f}, or " in said[0] and " adds 0.0" in said[0]
    assert said[2].startswith("Tested on 5 of the 3,669 ") and said[2].endswith(" 4 of them of three breeds.")
    turned = json.loads(json.dumps([photos, shipped]))
    for record in turned[0]:
        record["scores"]["miou"] = 0.99 if record["model"] == "unet" else 0.5
    for record in turned[1]:
        if "clicks" in record:
            record["clicks"]["missed@1"]["after"] = record["clicks"]["missed@1"]["before"] - 0.1
    (first, *_) = sentences.summary_sentences(turned[0], thorough, turned[1], pairs, breeds)
    assert "the U-Net comes first: mIoU 0.99" in first and "changes it by -0.10 to -0.10 IoU" in first


def test_what_was_learned_from_and_looked_at_is_said_of_all_models():
    said = sentences.training_sentence(committed_records("oxford-cpu"))
    assert said.startswith("All learned masks from the same 321 photos; the autoencoder and self-trained decoder also ")
    assert said.endswith("at 224 and 448 pixels, the others at 224.")
    assert sentences.training_sentence(committed_records("sample")) == "All learned masks from the same 480 photos."


def test_cats_outdoors_are_told_of_weights_that_saw_such_photos_and_of_a_decoder_that_did_not():
    unseen = pd.read_csv(ROOT / "figures" / "oxford-cpu" / "elsewhere.csv")
    said = sentences.unseen_sentence(shipped_records(), unseen)
    row = unseen[(unseen["model"] == "decoder") & (unseen["pictures"] == "elsewhere")].iloc[0]
    assert f"and {row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}] with the decoder of study oxford-cpu" in said


def test_every_notebook_has_a_finding_on_photos_made_of_their_records():
    folder, thorough = ROOT / "figures" / "oxford-cpu", committed_records("oxford-gpu")
    photos, pairs = committed_records("oxford-cpu"), pd.read_csv(folder / "pairs.csv")
    rest = pd.read_csv(folder / "pictures.csv")["breed"], pd.read_csv(folder / "robustness.csv")
    said = sentences.findings(photos, thorough, pairs, *rest)
    assert sorted(said) == sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
    rows = results.results_table(results.select(photos, protocol=results.PRIMARY)).set_index("model")
    for notebook, model in (("02_unet", "unet"), ("04_clip_decoder", "decoder")):
        assert f"reaches mIoU {rows.loc[model, 'mIoU']:.3f} [" in said[notebook]


def test_a_finding_is_told_as_soon_as_its_notebook_ran():
    photos, nothing = committed_records("oxford-cpu"), pd.DataFrame()
    breeds = pd.Series(dtype=str)
    assert sentences.findings([], [], nothing, breeds, nothing) == {}
    unets = [record for record in photos if record["model"] == "unet"]
    (said,) = sentences.findings(unets, [], nothing, breeds, nothing).values()
    assert said.startswith("From scratch, a U-Net reaches mIoU ") and said.endswith("] on photos.")
    scored = sentences.findings(photos, [], nothing, breeds, nothing)
    assert list(scored) == ["02_unet", "03_autoencoder_pretraining", "04_clip_decoder", "05_point_prompt"]
    assert "ahead" not in scored["03_autoencoder_pretraining"]
    unclicked = json.loads(json.dumps(photos))
    for record in unclicked:
        for key in ("before", "after") if "clicks" in record else ():  # no picture has a part to click on
            record["clicks"]["missed@1"][key] = None
    assert "05_point_prompt" not in sentences.findings(unclicked, [], nothing, breeds, nothing)
