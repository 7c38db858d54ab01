"""From a model to the scores of its predictions."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from petseg_utils.data.labels import PADDING
from petseg_utils.models.decoder import Decoder, FrozenSegmenter
from petseg_utils.models.encoders import LITE, load_encoder
from petseg_utils.models.feature_cache import load_features
from petseg_utils.models.unet import UNet
from petseg_utils.scores.predictions import predict, score_protocols, small_breeds
from tests.scores.by_colour import ByColour


def test_a_model_that_is_right_scores_high_under_every_protocol(splits):
    test, predictions = splits["test"], predict(ByColour(), splits["test"])
    scores = score_protocols(test, predictions, 50, np.ones(len(test), bool))
    assert scores["ignore_border"]["miou"] > 0.97 and scores["ignore_border"]["boundary_iou"] > 0.8
    assert scores["border_as_background"]["miou"] < scores["ignore_border"]["miou"]
    assert set(scores["binary_border_as_pet"]["iou"]) == {"background", "pet"}
    assert predictions.loss.max() < 0.5 and predictions.seconds > 0


def test_small_breeds_are_those_with_few_pictures_beside_large_ones(splits):
    table = pd.DataFrame({"name": map(str, range(25)), "breed": ["large"] * 20 + ["small"] * 5})
    mixed = replace(splits["test"], table=table)
    assert small_breeds(mixed).tolist() == [False] * 20 + [True] * 5
    assert not small_breeds(splits["test"]).any()  # every breed is small: nothing to compare with


def test_cached_features_give_the_same_predictions_as_the_encoder(study, splits):
    torch.manual_seed(0)
    encoder = load_encoder(LITE)
    model = FrozenSegmenter(encoder, Decoder(encoder.channels, encoder.strides, width=16))
    direct = predict(model, splits["test"])
    cached = predict(model, splits["test"], load_features(encoder, splits["test"], study.cache_dir, progress=False))
    assert (direct.classes == cached.classes).mean() > 0.995  # float16 moves a pixel that was undecided
    np.testing.assert_allclose(direct.loss, cached.loss, rtol=1e-2)


def test_padding_is_predicted_as_background(splits):
    model = UNet(8)
    torch.nn.init.zeros_(model.decoder.head.weight)
    model.decoder.head.bias.data = torch.tensor([0.0, 5.0, 0.0])  # cat everywhere
    classes = predict(model, splits["test"]).classes
    padding = splits["test"].labels == PADDING
    assert padding.any() and (classes[padding] == 0).all() and (classes[~padding] == 1).all()


def test_predictions_do_not_depend_on_the_batch(splits):
    torch.manual_seed(0)
    model = UNet(8)
    everything = predict(model, splits["train"])
    name = splits["train"].table["name"].iloc[-1]
    alone = predict(model, splits["train"].subset([name]))
    assert (everything.classes[-1] == alone.classes[0]).mean() > 0.999
    assert everything.loss[-1] == pytest.approx(alone.loss[0], rel=1e-4)
