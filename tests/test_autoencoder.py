"""The autoencoder squeezes, paints and lends its encoder; a frozen one stays as it was."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio
from typer.testing import CliRunner

from petseg_utils import checkpoints, few_labels, models
from petseg_utils.autoencoder import Autoencoder, PretrainedUNet, hide_patches, psnr, reconstruct, reconstruction_loss
from petseg_utils.cli import app
from petseg_utils.evaluation import make_records, predict
from petseg_utils.metrics import PADDING
from petseg_utils.pictures import load_splits
from petseg_utils.unet import PIXEL_MEAN, UNet


@pytest.fixture
def splits(study):
    return load_splits(study, progress=False)


def autoencoder_card(study):
    return checkpoints.read_card(checkpoints.run_folder("autoencoder", study, 0) / "best.safetensors")


def test_everything_passes_the_bottleneck_unless_there_are_skips():
    torch.manual_seed(0)
    images = torch.rand(1, 3, 64, 64) * 255
    for skips in (False, True):
        model = Autoencoder(4, skips=skips).eval()
        for parameter in model.bottleneck.parameters():
            parameter.data.zero_()  # nothing comes through any more
        plain, other = model(images), model(255 - images)
        assert plain.shape == images.shape
        assert torch.allclose(plain, other) != skips


def test_the_encoder_is_the_unets_own():
    autoencoder, unet = Autoencoder(4), PretrainedUNet(4)
    unet.encoder.load_state_dict(autoencoder.encoder.state_dict())
    assert type(autoencoder.encoder) is type(UNet(4).encoder) is type(unet.encoder)


def test_hidden_patches_are_whole_cells_of_the_share_asked_for():
    torch.manual_seed(0)
    images = torch.full((40, 3, 64, 64), 7.0)
    seen = hide_patches(images, 0.3)
    hidden = (seen != 7).all(1)
    cells = hidden.unfold(1, 16, 16).unfold(2, 16, 16).flatten(3)
    assert (cells.all(-1) | ~cells.any(-1)).all()
    assert hidden.float().mean().item() == pytest.approx(0.3, abs=0.06)
    assert seen[:, 1][hidden].unique().item() == pytest.approx(PIXEL_MEAN[1])


def test_padding_does_not_enter_the_loss_and_a_crop_is_a_window_of_the_picture():
    class Dark(torch.nn.Module):
        def forward(self, images):
            self.shape = images.shape
            return torch.zeros_like(images)

    images = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
    labels = torch.zeros(2, 64, 64, dtype=torch.uint8)
    images[:, :, 32:] = 255
    labels[:, 32:] = PADDING
    model = Dark()
    assert reconstruction_loss(model, {"image": images, "label": labels}).item() == 0
    whole = {"image": images, "label": torch.zeros_like(labels)}
    assert reconstruction_loss(model, whole).item() == pytest.approx(0.5)
    reconstruction_loss(model, whole, crop=16)
    assert model.shape == (2, 3, 16, 16)


def test_psnr_is_scikit_images_where_there_is_no_padding(splits):
    pictures = splits["test"]
    whole = replace(pictures, labels=np.where(pictures.labels == PADDING, 0, pictures.labels))
    painted = np.clip(whole.images.astype(int) + np.random.default_rng(0).integers(-9, 9, whole.images.shape), 0, 255)
    painted = painted.astype(np.uint8)
    wanted = [peak_signal_noise_ratio(*pair) for pair in zip(whole.images, painted, strict=True)]
    np.testing.assert_allclose(psnr(whole, painted), wanted, rtol=1e-5)
    wild = np.where((pictures.labels == PADDING)[..., None], 255 - painted, painted)
    np.testing.assert_allclose(psnr(pictures, wild), psnr(pictures, painted))


def test_four_pictures_are_painted_from_memory(study, splits, tmp_path):
    four = splits["train"].subset(splits["train"].table["name"][:4].tolist())
    settings = replace(study.autoencoder, width=8, epochs=150, batch_size=4, learning_rate=0.01, patience=200)
    both = {"train": four, "validation": four}
    model = models.train("autoencoder", study, 0, both, settings=settings, folder=tmp_path, progress=False)
    flat = np.broadcast_to(np.mean(four.images, (1, 2), keepdims=True), four.images.shape).astype(np.uint8)
    assert psnr(four, reconstruct(model, four)).mean() > psnr(four, flat).mean() + 3


@pytest.mark.parametrize("frozen", [True, False])
def test_a_frozen_encoder_is_the_autoencoders_to_the_last_bit_and_a_fine_tuned_one_is_not(study, splits, frozen):
    study = replace(study, autoencoder_unet=replace(study.autoencoder_unet, frozen=frozen))
    model = models.train("autoencoder_unet", study, 0, splits, progress=False)
    autoencoder = checkpoints.load(checkpoints.run_folder("autoencoder", study, 0) / "best.safetensors")[0]
    pairs = zip(autoencoder.encoder.state_dict().values(), model.encoder.state_dict().values(), strict=True)
    assert all(torch.equal(before, after) for before, after in pairs) == frozen
    card = checkpoints.read_card(checkpoints.run_folder("autoencoder_unet", study, 0) / "best.safetensors")
    assert card["pretraining"]["n_images"] == len(splits["train"])
    records = make_records(study, card, "test", splits["test"], predict(model, splits["test"]), model)
    counts = records[0]["parameters"]
    encoder = sum(parameter.numel() for parameter in model.encoder.parameters())
    assert counts["total"] - counts["trained"] == (encoder if frozen else 0)


def test_unlabelled_pictures_are_used_without_those_of_the_other_splits(study, splits, tmp_path, monkeypatch):
    from PIL import Image

    folder = tmp_path / "more"
    folder.mkdir()
    for split in ("train", "validation", "test"):
        name = splits[split].table["name"].iloc[0]
        Image.fromarray(np.array(splits[split].images[0])).save(folder / f"{name}.png")
    Image.fromarray(np.array(splits["train"].images[1])).save(folder / "new_1.png")
    models.trained("autoencoder", study, 0, splits, progress=False)
    assert autoencoder_card(study)["more"] is None
    monkeypatch.setenv("PETSEG_UNLABELLED", str(folder))
    models.trained("autoencoder", study, 0, splits, progress=False)  # not the one that had fewer pictures
    assert autoencoder_card(study)["more"]["n_images"] == 1
    assert autoencoder_card(study)["n_images"] == len(splits["train"])


def test_shares_of_labels_make_equal_steps_and_their_rows_are_kept(study, splits, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(models, "train", lambda *given, **options: seen.append((given, options)))
    monkeypatch.setattr(few_labels.pd, "read_csv", lambda path: pd.DataFrame({"miou": [0.25, 0.5, 0.3]}))
    rows = few_labels.run_shares("from scratch", "unet", study, splits, study.unet)
    assert rows["pictures"].tolist() == [4, len(splits["train"])] and (rows["miou"] == 0.5).all()
    for given, _ in seen:
        assert len(given[3]["train"]) == len(splits["train"])
        assert given[3]["validation"] is splits["validation"]
    assert len(set(seen[0][0][3]["train"].table["name"])) == 4
    monkeypatch.undo()
    monkeypatch.setenv("PETSEG_RUNS", str(tmp_path / "runs"))
    few_labels.keep(study, splits, rows)
    few_labels.keep(study, splits, rows.assign(start="frozen"))
    both = few_labels.keep(study, splits, rows.assign(miou=0.75))
    assert len(both) == 4
    assert both.groupby("start")["miou"].mean().to_dict() == {"from scratch": 0.75, "frozen": 0.5}
    longer = replace(study, labels=replace(study.labels, epochs=9))
    assert len(few_labels.keep(longer, splits, rows)) == 2  # runs of other lengths are not compared


def test_an_autoencoder_is_not_evaluated_and_the_message_says_what_is(data):
    result = CliRunner().invoke(app, ["evaluate", "autoencoder"])
    assert "makes no masks: evaluate autoencoder_unet" in str(result.exception)


def test_pretraining_counts_as_better_only_where_every_run_is():
    rows = [("random", 12.0, 0.50, 0.48, 0.52), ("plain", 20.0, 0.53, 0.51, 0.55), ("with skips", 32.5, 0.49, 0.4, 0.5)]
    table = pd.DataFrame(
        [*rows, ("masked", 19.0, 0.56, 0.53, 0.6)], columns=["pretraining", "psnr", "miou", "low", "high"]
    )
    said = few_labels.variant_sentence(table)
    assert "gains +12.5 dB over plain, and the mask's mIoU -0.040. Masking changes mIoU by +0.030" in said
    assert said.endswith("the *random* encoder (0.500) in every run: **masked**.")
    runs = [("from scratch", 10, 0.4), ("from scratch", 10, 0.5), ("frozen", 10, 0.51), ("frozen", 10, 0.6)]
    runs += [("fine-tuned", 10, 0.3), ("fine-tuned", 10, 0.39), ("from scratch", 99, 0.7), ("frozen", 99, 0.7)]
    lines = few_labels.label_sentences(pd.DataFrame(runs, columns=["start", "pictures", "miou"])).splitlines()
    assert "**10** labels *frozen* is best at 0.555; from scratch gives 0.450" in lines[0]
    assert "better than from scratch: frozen; worse: fine-tuned." in lines[0]
    assert "better than from scratch: none; worse: none." in lines[1]


def test_the_start_that_is_best_on_average_is_called_best():
    runs = [("from scratch", 10, 0.5), ("from scratch", 10, 0.5), ("frozen", 10, 0.4), ("frozen", 10, 0.7)]
    runs += [("fine-tuned", 10, 0.1), ("fine-tuned", 10, 0.8)]
    said = few_labels.label_sentences(pd.DataFrame(runs, columns=["start", "pictures", "miou"]))
    assert "*frozen* is best at 0.550" in said
