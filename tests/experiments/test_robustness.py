"""The sweep over perturbed pictures, what is made of it, calibration, training with noise, pictures from elsewhere."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_auc_score
from torch import nn

from petseg_utils.data.labels import PADDING
from petseg_utils.data.tensors import to_tensor
from petseg_utils.data.transforms import PADDING_COLOUR
from petseg_utils.experiments.calibration import (
    Outputs,
    calibration_sentences,
    expected_calibration_error,
    finds_failures,
    fit_temperature,
    outputs_of,
    reliability,
)
from petseg_utils.experiments.robustness import sweep as sweep_module
from petseg_utils.experiments.robustness.charts import strip
from petseg_utils.experiments.robustness.corruptions import LEVELS, ORIGINAL, corrupt_all, moved_point, photo_window
from petseg_utils.experiments.robustness.noise_training import compare, gains, noise_sentence, noisy
from petseg_utils.experiments.robustness.sweep import (
    CLEAN,
    HELPED,
    MISSED,
    clicks_on,
    perturbed,
    predict_cases,
    some_test_pictures,
    sweep,
    sweep_steps,
)
from petseg_utils.experiments.robustness.tables import (
    breaking_points,
    curves,
    helped_by,
    loss_sentences,
    ranking,
    relative_loss,
    verdict_sentences,
    verdicts,
    write_curves,
)
from petseg_utils.models.cards import read_card
from petseg_utils.models.click_head import PointSegmenter
from petseg_utils.models.encoders import LITE, Encoder, halved, load_encoder
from petseg_utils.scores.intervals import bootstrap_intervals
from petseg_utils.scores.metrics import picture_confusions
from petseg_utils.scores.predictions import predict
from petseg_utils.training.batches import TrainingPictures
from petseg_utils.training.checkpoints import run_folder
from petseg_utils.training.recipes import recipe_of
from petseg_utils.training.train import trained


@pytest.fixture
def networks(study, splits):
    """The decoder and the click model of the smoke study, trained on the tests' pictures."""
    return {name: trained(name, study, 0, splits, progress=False) for name in ("decoder", "point")}


@pytest.fixture
def untrained(study):
    """The same two with random weights."""
    torch.manual_seed(0)
    encoder = load_encoder(study.encoder, study.image_size)
    return {name: recipe_of(name).build(study.settings(name), encoder).eval() for name in ("decoder", "point")}


def invented_records(dice_at: dict[str, list[float]], model: str = "unet", n: int = 6) -> list[dict]:
    """Records in which every class of every picture has the same share of right pixels, by level."""
    conditions = {"encoder": None, "study": "smoke", "seed": 0}
    records = []
    for kind, values in dice_at.items():
        for level, dice in zip(LEVELS[kind], values, strict=True):
            right = round(1000 * dice)  # as many missed as falsely found, so Dice is the share that is right
            wrong = (1000 - right) // 2
            matrix = np.full((3, 3), wrong) + np.diag([right - wrong] * 3)
            counts = np.vstack([matrix, np.zeros((2, 3), int)]).ravel().tolist()
            record = {"model": model, "corruption": kind, "level": float(level), "conditions": conditions}
            records.append(record | {"counts": [counts] * n})
    return records


class Stub(nn.Module):
    """Finds a cat wherever a pixel is bright, and counts how often it is asked."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.asked = 0

    def forward(self, images):
        self.asked += len(images)
        bright = (images.mean(1) - 100) * self.scale
        return torch.stack([-bright, bright, torch.full_like(bright, -1e6)], 1)


class Clicked(PointSegmenter):
    """Calls a dog whatever lies where clicks are drawn higher than this: 1 is their centre, 0 far away."""

    def __init__(self, height: float):
        nn.Module.__init__(self)
        self.weight = nn.Parameter(torch.zeros(1))
        self._frozen = (nn.Identity(),)
        self.encoder.identity = "none"
        self.height, self.peak = height, 0.0

    def look(self, images, maps):
        classes = torch.zeros_like(images)
        classes[:, 2] = 1
        return images, classes

    def select(self, seen, prompts, latest, side=None):
        return prompts[:, :1] - self.height


# The sweep


def test_every_level_is_a_step_and_the_harmless_ones_are_one():
    steps = sweep_steps()
    assert len(steps) == len(set(steps))
    assert steps[0] == ("clean", 0.0) and ("gaussian_noise", 0.0) not in steps and ("jpeg", 100.0) in steps
    assert len(steps) == 1 + sum(len(levels) - (kind != "jpeg") for kind, levels in LEVELS.items())


def test_the_sweep_goes_on_after_a_cut_and_starts_anew_with_other_weights(study, splits, networks, monkeypatch):
    steps = [("clean", 0.0), ("gaussian_noise", 18.0), ("rotation", 90.0), ("click_offset", 45.0)]
    monkeypatch.setattr(sweep_module, "sweep_steps", lambda: steps)
    pictures = some_test_pictures(study, splits["test"])
    first = sweep(study, 0, networks, pictures)
    assert [record["model"] for record in first].count(HELPED) == 4  # only a click can miss its place
    assert {record["model"] for record in first} == {"decoder", HELPED}  # before a click, point is the decoder
    assert len(first) == 3 + 4
    for record in first:
        assert (np.array(record["counts"]).sum(1) == study.image_size**2).all()
        assert record["conditions"]["n_images"] == len(pictures) and record["versions"]["torch"] and record["commit"]
    path = study.runs_dir / "robustness.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:40])  # killed in the middle of a line
    asked = []
    monkeypatch.setattr(sweep_module, "predict_cases", lambda *args: asked.append(args[1]) or predict_cases(*args))
    assert sweep(study, 0, networks, pictures) == first
    assert asked == [[(HELPED, "rotation", 90.0)]]
    asked.clear()
    assert sweep(study, 0, networks, pictures) == first and not asked
    card = study.runs_dir / "decoder-seed0" / "best.safetensors"
    card.write_bytes(card.read_bytes() + b" ")
    sweep(study, 0, networks, pictures)
    assert asked == [[("decoder", *step)] for step in steps[:3]]
    assert len(path.read_text().splitlines()) == len(first)  # what is out of date is gone


def test_the_encoder_runs_once_for_decoders_that_share_it(splits, untrained, monkeypatch):
    calls = []
    forward = Encoder.forward
    monkeypatch.setattr(Encoder, "forward", lambda self, images: calls.append(len(images)) or forward(self, images))
    test = splits["test"]
    cases = [("decoder", *CLEAN), ("point", *CLEAN), (HELPED, *CLEAN), (HELPED, "click_offset", 20.0)]
    predict_cases(untrained, cases, test, np.array(test.images), np.array(test.labels))
    assert sum(calls) == len(test)


def test_every_step_is_scored_on_its_own_pictures(study, splits, networks, monkeypatch):
    steps = [CLEAN, ("rotation", 90.0), ("gaussian_noise", 18.0), (MISSED, 45.0)]
    monkeypatch.setattr(sweep_module, "sweep_steps", lambda: steps)
    pictures = some_test_pictures(study, splits["test"])
    records = sweep(study, 0, networks, pictures)
    assert {(record["corruption"], record["level"]) for record in records} == set(steps)
    for record in records:
        case = (record["model"], record["corruption"], record["level"])
        images, labels = np.array(pictures.images), np.array(pictures.labels)
        if case[1] not in (CLEAN[0], MISSED):
            images, labels = corrupt_all(pictures, *case[1:])
        classes = predict_cases(networks, [case], pictures, images, labels)[case]
        assert record["counts"] == picture_confusions(labels, classes).reshape(len(pictures), -1).tolist()


def test_every_batch_is_answered_for_its_own_pictures(splits, untrained, monkeypatch):
    monkeypatch.setattr(sweep_module, "BATCH", 3)
    test = splits["test"]
    cases = [(name, *CLEAN) for name in ("decoder", "point", HELPED)]
    together = predict_cases(untrained, cases, test, np.array(test.images), np.array(test.labels))
    for start in range(0, len(test), 3):
        few = test.subset(test.table["name"].iloc[start : start + 3].tolist())
        alone = predict_cases(untrained, cases, few, np.array(few.images), np.array(few.labels))
        for case in cases:
            np.testing.assert_array_equal(together[case][start : start + 3], alone[case])


@pytest.mark.parametrize(("kind", "level"), [CLEAN, ("rotation", 45.0), ("scale", 0.4), (MISSED, 45.0)])
def test_the_model_hears_the_click_where_the_animal_is_now(splits, monkeypatch, kind, level):
    monkeypatch.setattr(sweep_module, "BATCH", 4)
    test, case = splits["test"], (HELPED, kind, level)
    images, labels = perturbed(test, kind, level)
    classes = predict_cases({"point": Clicked(0.85)}, [case], test, images, labels)[case]
    for mask, said in zip(classes, clicks_on(test, slice(0, len(test)), labels, kind, level), strict=True):
        ys, xs = np.nonzero(mask)
        assert np.hypot(xs.mean() - said[0].x, ys.mean() - said[0].y) < 1.5


def test_padding_that_a_turn_moves_is_background_whatever_was_clicked(splits):
    test, case = splits["test"], (HELPED, "rotation", 90.0)
    images, labels = perturbed(test, *case[1:])
    classes = predict_cases({"point": Clicked(-1)}, [case], test, images, labels)[case]  # takes the whole picture
    np.testing.assert_array_equal(classes, np.where(labels == PADDING, 0, 2))


def test_unperturbed_pictures_get_the_classes_of_the_evaluation(splits, untrained):
    test = splits["test"]
    case = ("decoder", *CLEAN)
    classes = predict_cases(untrained, [case], test, np.array(test.images), np.array(test.labels))[case]
    assert (classes == predict(untrained["decoder"], test).classes).mean() > 0.97  # but for bfloat16
    assert (classes[test.labels == PADDING] == 0).all()


@pytest.fixture
def detailed(study, splits):
    """Splits whose pictures are there at twice their size too, and models of which two see that detail."""
    torch.manual_seed(0)
    size = study.image_size
    encoder = load_encoder(f"{LITE}@{size}+{2 * size}", size)
    names = {"unet": None, "decoder": encoder, "point": encoder}
    networks = {name: recipe_of(name).build(study.settings(name), own).eval() for name, own in names.items()}
    rng = np.random.default_rng(0)
    parts = {}
    for name, part in splits.items():
        whole = np.array(part.images).repeat(2, 1).repeat(2, 2)
        padding = np.array(part.labels).repeat(2, 1).repeat(2, 2)[..., None] == PADDING
        finer = np.where(padding, 0, rng.integers(-9, 10, whole.shape))
        parts[name] = replace(part, detail=np.clip(whole + finer, 0, 255).astype(np.uint8))
    return parts, networks


def test_models_that_see_more_detail_get_it_perturbed_and_the_others_the_same_photo_halved(detailed):
    test, networks = detailed[0]["test"], detailed[1]
    images, labels = perturbed(test, *CLEAN, 2)
    assert np.array_equal(images, test.detail) and np.array_equal(labels, test.labels)
    cases = [(name, *CLEAN) for name in networks]
    classes = predict_cases(networks, cases, test, images, labels)
    for name in ("decoder", "point"):
        assert (classes[name, *CLEAN] == predict(networks[name], test).classes).mean() > 0.97, name  # but for bfloat16
    seen = []
    networks["unet"].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    strip(networks, test, 0, "occlusion")
    predict_cases(networks, [("unet", *CLEAN)], test, images, labels)
    assert torch.equal(seen[-1], halved(to_tensor(test.detail))[-len(seen[-1]) :])
    for kind, levels in LEVELS.items():
        images, labels = perturbed(test, kind, levels[-1], 2)
        assert images.shape == test.detail.shape and labels.shape == test.labels.shape, kind
        padding = labels.repeat(2, 1).repeat(2, 2) == PADDING  # along a turned edge the finer pixels may be the photo's
        assert (images[padding] == PADDING_COLOUR).mean() > 0.97, kind


def test_noise_is_learned_at_the_size_that_the_model_sees(detailed):
    train = detailed[0]["train"]
    plain, varied = (TrainingPictures(train, 0, noisy(most, 2))[0] for most in (0, 18))
    assert plain["image"].shape[1:] == train.detail.shape[1:3] and plain["label"].shape == train.labels.shape[1:]
    assert torch.equal(plain["label"], varied["label"]) and not torch.equal(plain["image"], varied["image"])


def test_the_click_stays_on_the_pet_at_every_level_but_not_where_its_offset_is_tested(splits):
    test = splits["test"]
    whole = slice(0, len(test))
    clean = clicks_on(test, whole, np.array(test.labels), "clean", 0.0)
    for kind, level in (("gaussian_noise", 18), ("rotation", 45), ("scale", 0.4)):
        labels = corrupt_all(test, kind, level)[1]
        for first, now, label in zip(clean, clicks_on(test, whole, labels, kind, level), labels, strict=True):
            assert label[int(now[0].y), int(now[0].x)] in (1, 2)
            wanted = moved_point(first[0].x, first[0].y, kind, level, len(label))
            assert np.hypot(now[0].x - wanted[0], now[0].y - wanted[1]) < 2
    off = clicks_on(test, whole, np.array(test.labels), "click_offset", 45)
    distances = [np.hypot(a[0].x - b[0].x, a[0].y - b[0].y) for a, b in zip(clean, off, strict=True)]
    assert max(distances) == pytest.approx(45 * test.labels.shape[1] / 224, abs=0.6)
    empty = np.zeros_like(test.labels)
    assert clicks_on(test, whole, empty, "scale", 0.25) == [[]] * len(test)


def test_a_click_that_misses_its_place_stays_on_the_photo(splits):
    test = splits["test"]
    for label, said in zip(test.labels, clicks_on(test, slice(0, len(test)), test.labels, MISSED, 1000), strict=True):
        down, across = photo_window(np.array(label))
        assert across.start <= said[0].x <= across.stop - 1 and down.start <= said[0].y <= down.stop - 1


def test_a_click_on_what_a_turn_takes_out_of_view_goes_to_the_pet_that_is_left(splits):
    labels = np.zeros_like(splits["test"].labels)
    labels[:, :6, :6] = 1  # a corner, where the clicks fall
    corner = replace(splits["test"], labels=labels)
    seen = np.zeros_like(labels)
    seen[:, 30:34, 30:34] = 1
    for said in clicks_on(corner, slice(0, len(labels)), seen, "rotation", 45):
        assert 30 <= said[0].x < 34 and 30 <= said[0].y < 34


def test_each_model_is_trained_at_its_own_precision(study, splits):
    changes = {"unet": {"epochs": 1, "mixed_precision": "bf16"}, "decoder": {"epochs": 1}}
    changed = {name: replace(study.settings(name), **change) for name, change in changes.items()}
    mixed = replace(study, models=study.models | changed)
    for name, wanted in (("unet", "bf16"), ("decoder", "no")):
        trained(name, mixed, 0, splits, progress=False)
        assert read_card(run_folder(name, mixed, 0) / "best.safetensors")["precision"] == wanted


def test_pictures_of_the_sweep_are_spread_over_species(study, splits):
    few = some_test_pictures(replace(study, robustness=replace(study.robustness, pictures=4)), splits["test"])
    assert len(few) == 4 and set(few.table["species"]) == {1, 2}
    every = some_test_pictures(replace(study, robustness=replace(study.robustness, pictures=0)), splits["test"])
    assert sorted(every.table["name"]) == sorted(splits["test"].table["name"])


# What is made of it


def test_curves_have_the_scores_and_intervals_of_the_evaluation():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (8, 20, 20)).astype(np.uint8)
    guesses = np.where(rng.random(labels.shape) < 0.7, labels, rng.integers(0, 3, labels.shape)).astype(np.uint8)
    counts = picture_confusions(labels, guesses)
    conditions = {"encoder": "e", "study": "s", "seed": 0}
    records = [{"model": "decoder", "corruption": "clean", "level": 0.0, "conditions": conditions}]
    records += [records[0] | {"corruption": "blur", "level": float(level)} for level in range(1, 10)]
    table = curves([record | {"counts": counts.reshape(8, -1).tolist()} for record in records], 200)
    wanted = bootstrap_intervals(counts, "ignore_border", n_resamples=200)
    for name, key in (("mIoU", "miou"), ("dice", "dice")):
        rows = table[(table["score"] == name) & (table["corruption"] == "blur")]
        assert rows["level"].tolist() == list(LEVELS["blur"]) and (rows["n_images"] == 8).all()
        np.testing.assert_allclose(rows[["low", "high"]].iloc[3], wanted[key])


def test_five_points_are_lost_between_the_levels_where_they_are():
    falling = [0.95, 0.95, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3]
    table = curves(invented_records({"gaussian_noise": falling, "blur": [0.9] * 10}), 10)
    points = breaking_points(table)["unet"]
    iou = [value / (2 - value) for value in falling]
    part = (0.05 - (iou[0] - iou[2])) / (iou[2] - iou[3])
    assert points["gaussian_noise"] == pytest.approx(4 + 2 * part, abs=0.01)
    assert np.isnan(points["blur"]) and np.isnan(points["jpeg"])


def test_ranking_is_by_the_share_kept_not_by_the_score():
    steady = invented_records({kind: [0.6] * 10 for kind in ORIGINAL}, "unet")
    falling = invented_records({kind: [0.95] + [0.8] * 9 for kind in ORIGINAL}, "decoder")
    table = ranking(falling + steady, 20)
    assert table["model"].tolist() == ["unet", "decoder"]
    assert table["kept"].iloc[0] == pytest.approx(1) and table["kept"].iloc[1] == pytest.approx(
        0.8 / 1.2 / (0.95 / 1.05)
    )
    assert table["mean"].iloc[1] > table["mean"].iloc[0]
    loss = relative_loss(curves(falling, 10))
    assert loss.loc["decoder", "blur"] == pytest.approx(1 - table["kept"].iloc[1])


def test_the_worst_level_counts_even_where_it_is_not_the_last():
    worst = [0.9 if level != 45 else 0.6 for level in LEVELS["rotation"]]
    loss = relative_loss(curves(invented_records({"rotation": worst}), 10)).loc["unet", "rotation"]
    assert loss == pytest.approx(1 - 0.6 / 1.4 / (0.9 / 1.1), abs=0.002)


def test_a_model_that_starts_too_low_is_not_judged():
    low = invented_records({kind: [0.85] * 10 for kind in ORIGINAL}, "unet")
    high = invented_records({kind: [0.95] * 9 + [0.4] for kind in ORIGINAL}, "decoder")
    table = curves(low + high, 10)
    said = verdict_sentences(table, verdicts(table))
    assert said.startswith("The decoder (0.950 unperturbed) stays above 0.9 at the hardest level of **0 of 8**")
    assert "Not above 0.9 to begin with: U-Net (0.850 unperturbed)." in said


def test_what_a_click_adds_is_read_off_the_level_at_which_the_decoder_is_worst():
    alone = invented_records({"blur": [0.9] * 8 + [0.4, 0.5]}, "decoder")
    helped = invented_records({"blur": [0.9] * 8 + [0.6, 0.55]}, HELPED)
    gain = helped_by(curves(alone + helped, 10))
    assert gain.index.tolist() == ["blur"]
    assert gain.loc["blur", "gain"] == pytest.approx(0.6 / 1.4 - 0.4 / 1.6, abs=0.002)


def test_the_claim_is_judged_by_the_whole_interval():
    about = {kind: [0.95] * 10 for kind in ORIGINAL} | {"blur": [0.95] * 9 + [0.5]}
    records = invented_records(about)
    for record in records:  # one perturbation whose pictures disagree, on both sides of 0.9
        if record["corruption"] == "occlusion" and record["level"] == 45:
            good, bad = record["counts"][0], records[0]["counts"][0]
            bad = [50, 25, 25, 25, 50, 25, 25, 25, 50, *bad[9:]]
            record["counts"] = [good] * 3 + [bad] * 3
    table = curves(records, 200)
    judged = verdicts(table)
    assert judged["unet"][["blur", "gaussian_noise", "occlusion"]].tolist() == ["no", "yes", "unsure"]
    said = verdict_sentences(table, judged)
    assert "at the hardest level of **6 of 8** perturbations; it is unsure under Black square; it falls below" in said
    assert "below under Blur. This neither confirms nor refutes" in said


def test_what_lies_beside_the_figures_is_small_and_says_where_it_comes_from(study):
    made_by = {"versions": {"torch": "x"}, "commit": "c"}
    records = [record | made_by for record in invented_records({"blur": [0.9] * 10})]
    write_curves(study, records, curves(records, 10))
    table = pd.read_csv(study.figures_dir / "robustness.csv")
    columns = ["study", "model", "encoder", "seed", "corruption", "level", "score", "value", "low", "high", "n_images"]
    assert table.columns.tolist() == columns and len(table) == 20
    (line,) = (study.figures_dir / "robustness.jsonl").read_text().splitlines()
    assert json.loads(line)["commit"] == "c" and "counts" not in json.loads(line)


# Calibration


def some_outputs(temperature: float = 1.0, n: int = 40_000) -> Outputs:
    """Targets drawn from the chances that the logits say, and the logits then made too sure by a factor."""
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, (n, 3)).astype(np.float32)
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    targets = (rng.random((n, 1)) > chances.cumsum(1)).sum(1).clip(max=2).astype(np.uint8)
    return Outputs(logits * temperature, targets, rng.random(50), rng.random(50))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_calibration_error_is_the_mean_gap_of_the_bins_that_the_chart_shows(temperature):
    outputs = some_outputs(3.0)
    bins = reliability(outputs, temperature)
    assert bins["share"].sum() == pytest.approx(1)
    gap = (bins["share"] * (bins["confidence"] - bins["accuracy"]).abs()).sum()
    assert expected_calibration_error(outputs, temperature) == pytest.approx(gap, abs=1e-4)


def test_temperature_undoes_what_made_logits_too_sure():
    outputs = some_outputs(3.0)
    temperature = fit_temperature(outputs)
    assert temperature == pytest.approx(3, rel=0.05)
    assert expected_calibration_error(outputs, temperature) < 0.02 < expected_calibration_error(outputs)


def test_finding_failures_is_the_area_under_the_roc_curve():
    outputs = some_outputs()
    failed = np.zeros(50, bool)
    failed[np.argsort(outputs.miou)[:5]] = True
    assert finds_failures(outputs) == pytest.approx(roc_auc_score(failed, -outputs.confidence))
    wins = mannwhitneyu(outputs.confidence[~failed], outputs.confidence[failed]).statistic
    assert finds_failures(outputs) == pytest.approx(wins / (5 * 45))  # the chance that a failure is the less sure


def test_outputs_leave_border_and_padding_out(splits):
    test = splits["test"]
    outputs = outputs_of(Stub(), test)
    coarse = test.labels[:, ::2, ::2]
    np.testing.assert_array_equal(outputs.targets, coarse[coarse < PADDING])
    bright = np.array(test.images[:, ::2, ::2]).astype(float).mean(-1)[coarse < PADDING] - 100
    np.testing.assert_allclose(outputs.logits[:, 1], bright, atol=1e-3)
    assert len(outputs.confidence) == len(outputs.miou) == len(test)


# Training with noise


def test_noisy_pictures_differ_from_the_others_in_noise_alone(splits):
    train = splits["train"]
    plain, varied = (TrainingPictures(train, 0, noisy(most)) for most in (0, 18))
    strengths = []
    for index in range(len(train)):
        a, b = plain[index], varied[index]
        assert torch.equal(a["label"], b["label"])
        difference = (b["image"].float() - a["image"].float())[:, a["label"] != PADDING]
        strengths.append(float(difference.std()))
        assert torch.equal(b["image"], varied[index]["image"])
    assert max(strengths) > 8 and min(strengths) < 8
    varied.epoch = 1
    assert not torch.equal(varied[0]["image"], b["image"])


def test_the_experiment_changes_nothing_but_the_noise(study, splits, networks):
    counts, seconds = compare("decoder", study, 0, splits, splits["test"])
    assert set(counts) == {"as it was", "more training", "more training, with noise"} and len(seconds) == 2
    cards = [
        json.loads((study.runs_dir / "noise" / f"decoder-{most}-seed0" / "best.json").read_text()) for most in (0, 18)
    ]
    assert [card["noise"] for card in cards] == [0, 18]
    assert cards[0]["settings"] == cards[1]["settings"] and cards[0]["seed"] == cards[1]["seed"]
    table = gains(counts, 20)
    assert table["what"].tolist()[0] == "unperturbed" and len(table) == 9
    assert (table["low"] <= table["high"]).all()


# Pictures from elsewhere


def test_what_noise_in_training_changed_turns_round_with_its_sign():
    table = pd.DataFrame({"what": ["Blur", "JPEG"], "difference": [0.2, 0.0], "low": [0.1, -0.1], "high": [0.3, 0.1]})
    said = noise_sentence(table)
    assert "raises the mIoU under: Blur (+0.200). It lowers it under: none. No change is shown under: JPEG" in said
    turned = table.assign(difference=-table["difference"], low=-table["high"], high=-table["low"])
    assert "It lowers it under: Blur (-0.200)" in noise_sentence(turned) and "the 2 intervals are of 95 % each" in said


def test_what_all_models_lose_is_told_from_the_losses():
    loss = pd.DataFrame({"blur": [0.5, 0.2], "jpeg": [0.01, 0.04], "scale": [0.2, 0.01]}, index=["unet", "decoder"])
    said = loss_sentences(loss)
    assert "* decoder: a tenth or more of its mIoU to Blur 20%; less than a twentieth each to JPEG, Shrunk." in said
    assert said.endswith("a tenth or more to: Blur. No model loses a twentieth to: JPEG.")
    said = loss_sentences(loss[["scale"]])
    assert said.endswith("None costs every model a tenth or more. Each costs at least one model a twentieth or more.")


def test_calibration_is_told_from_its_table():
    columns = {"accuracy": 0.9, "confidence": [0.95, 0.85], "ECE": [0.05, 0.04], "ECE after": [0.01, 0.06]}
    columns |= {"temperature": [1.2, 1.1], "finds failures": [0.7, 0.9]}
    said = calibration_sentences(pd.DataFrame(columns, index=["unet", "decoder"]))
    assert said.startswith("Too sure on average on the test pictures: U-Net; not sure enough: decoder.")
    assert "the other way round on the validation pictures for: decoder." in said
    assert "lowers the ECE of: U-Net." in said and "finds failures: U-Net 0.70, decoder 0.90." in said
