"""Diagrams of the networks."""

import matplotlib.pyplot as plt
import pytest
import torch

from petseg_utils.experiments import diagrams
from petseg_utils.models.autoencoder import CODE, Autoencoder
from petseg_utils.models.encoders import load_encoder
from petseg_utils.models.unet import UNet
from petseg_utils.study import load_study
from petseg_utils.training.recipes import recipe_of
from tests.models.tiny_clip import TINY, register


def texts(figure) -> list[str]:
    (axis,) = figure.axes
    plt.close(figure)
    return [text.get_text() for text in axis.texts]


def test_a_diagrams_shapes_are_those_of_the_networks_outputs():
    drawn = texts(diagrams.unet_diagram(UNet(6), 32))
    for features in UNet(6).encoder(torch.zeros(2, 3, 32, 32))[:-1]:
        assert drawn.count(diagrams.words("", features).strip()) == 2  # on the way down, and on the way up
    assert "96 × 2 × 2" in drawn and "logits\n3 × 32 × 32" in drawn
    painted = texts(diagrams.autoencoder_diagram(Autoencoder(6), 32))
    assert f"code\n{CODE} × 2 × 2" in painted and "widened\n96 × 2 × 2" in painted and "painted\n3 × 32 × 32" in painted


@pytest.mark.parametrize("spec", ["lite:efficientnet_lite0", "lite:efficientnet_lite0+2x", "clip:tiny-drawn/random"])
def test_decoder_and_click_head_are_drawn_on_every_encoder(spec, tmp_path):
    register(tmp_path, "tiny-drawn")
    study = load_study("smoke")
    encoder = load_encoder(spec, 64)
    network = recipe_of("decoder").build(study.settings("decoder"), encoder).train()
    drawn = texts(diagrams.decoder_diagram(network, 64))
    assert network.training and sum(text.startswith("map ") for text in drawn) == len(encoder.channels)
    for number, (channels, stride) in enumerate(zip(encoder.channels, encoder.strides, strict=True), start=1):
        assert f"map {number}\n{channels} × {64 // stride} × {64 // stride}" in drawn
    assert not any(text.startswith("refine") for text in drawn)
    head = texts(diagrams.click_head_diagram(recipe_of("point").build(study.settings("point"), encoder), 64))
    assert "prompts\n4 × 64 × 64" in head and "selection\n1 × 64 × 64" in head


def test_where_all_maps_are_coarse_the_diagram_shows_how_the_path_gets_finer(tmp_path):
    register(tmp_path, "tiny-coarse", vision_cfg=TINY["vision_cfg"] | {"patch_size": 16, "image_size": 64})
    study = load_study("smoke")
    network = recipe_of("decoder").build(study.settings("decoder"), load_encoder("clip:tiny-coarse/random", 64))
    width = network.decoder.narrow.in_channels
    drawn = texts(diagrams.decoder_diagram(network, 64))
    assert drawn.count(f"merge\n{width} × 4 × 4") == len(network.decoder.maps)
    assert drawn.count(f"refine\n{width} × 8 × 8") == 1 and f"halve channels\n{width // 2} × 8 × 8" in drawn
