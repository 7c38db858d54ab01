"""What a study takes is computed from its settings, and from trainings that were timed."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from petseg_utils.apps.cli.main import app
from petseg_utils.models.encoders import LITE
from petseg_utils.models.feature_cache import picture_bytes
from petseg_utils.report import plan
from petseg_utils.study import load_study


@pytest.fixture
def photos():
    """The study of photos, on the small encoder, which is built at once."""
    return replace(load_study("oxford-cpu"), encoder=LITE)


def test_operations_are_two_for_each_multiplication_with_its_addition():
    layer = nn.Conv2d(3, 8, 3, padding=1, bias=False)
    assert plan.operations_of(lambda: layer(torch.zeros(1, 3, 10, 10))) == 2 * 10 * 10 * 8 * 3 * 9


def test_attention_is_counted_although_torch_would_run_it_in_one_fused_step():
    width, tokens = 8, 5
    layer, x = nn.MultiheadAttention(width, 2, batch_first=True).eval(), torch.zeros(1, tokens, width)
    multiply_adds = tokens * 4 * width**2 + 2 * tokens**2 * width
    assert plan.operations_of(lambda: layer(x, x, x, need_weights=False)) == 2 * multiply_adds
    assert torch.backends.mha.get_fastpath_enabled()


def test_clips_encoder_costs_what_its_layers_do():
    encoder = plan.blank_encoder(load_study("oxford"))
    width, patches, blocks = 768, 14**2, 12
    tokens = patches + 1
    a_block = tokens * (4 + 8) * width**2 + 2 * tokens**2 * width  # projections and perceptron; attention
    multiply_adds = patches * 3 * 16**2 * width + blocks * a_block
    images = torch.zeros(1, 3, 224, 224, device="meta")
    assert plan.operations_of(lambda: encoder(images)) == 2 * multiply_adds


def test_a_longer_training_takes_longer_and_the_rest_the_same(photos):
    encoder = plan.blank_encoder(photos)
    before = plan.operations(photos, encoder)
    unet = replace(photos.settings("unet"), epochs=2 * photos.settings("unet").epochs)
    after = plan.operations(replace(photos, models=photos.models | {"unet": unet}), encoder)
    changed = after / before
    assert changed["training: U-Net"] == pytest.approx(2)
    assert (changed.drop("training: U-Net") == 1).all()
    assert (before > 0).all()


def test_pictures_are_perturbed_for_the_first_seed_only(photos):
    encoder = plan.blank_encoder(photos)
    three, alone = (plan.operations(replace(photos, seeds=seeds), encoder)["robustness"] for seeds in ((0, 1, 2), (0,)))
    assert three == alone


def test_disk_is_what_the_caches_write(photos):
    encoder = plan.blank_encoder(photos)
    sizes = plan.disk(photos, encoder)
    train, validation, test = plan.numbers(photos)
    assert (train + validation, test) == (3680, 3669)
    once = picture_bytes(encoder, 224)
    assert once == 2 * (24 * 56**2 + 40 * 28**2 + 112 * 14**2 + 320 * 7**2)
    assert sizes["features"] == pytest.approx((2 * train + validation + test) * once / 1e9)
    assert sizes["decoded photos"] > 7349 * 4 * 224**2 / 1e9


def test_the_plan_of_the_study_on_clip_needs_no_weights_and_fits_on_a_disk(no_network):
    done = CliRunner().invoke(app, ["report", "--study", "oxford", "--plan"])
    assert done.exit_code == 0, done.output
    assert "3,680 + 3,669 photos at 224 px, 3 seeds, encoder CLIP ViT-B/16." in done.output
    size = float(done.output.split("Disk: ")[1].split(" GB")[0])
    assert 5 < size <= 20
    hours = done.output.splitlines()[-1].split()
    assert hours[0] == "all" and float(hours[1]) > 100 * float(hours[2]) > 0
    assert " 0.0" not in done.output and "< 0.1" in done.output  # of work that there is
    assert "98 perturbations and levels" in done.output
