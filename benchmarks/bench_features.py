"""What the feature cache saves: reading against encoding, and an epoch of the decoder with and without it.

Usage: python benchmarks/bench_features.py [--pictures 48] [--json OUT]     (the sample study's pictures, at 224 px)

The vision transformer is a ViT-B/16 with random weights: they take as long as trained ones.
"""

import argparse
import json
import os
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from petseg_utils.datasets import list_pictures
from petseg_utils.decoder import Decoder, FrozenSegmenter
from petseg_utils.encoders import LITE, TWICE_LITE, load_encoder
from petseg_utils.evaluation import segmentation_loss
from petseg_utils.examples import CachedPictures
from petseg_utils.features import load_features
from petseg_utils.pictures import decode
from petseg_utils.study import load_study

SIZE, BATCH = 224, 8
SPECS = (LITE, TWICE_LITE, "clip:ViT-B-16-quickgelu/random")


def seconds(action) -> float:
    """Wall-clock seconds of a call."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def epoch(model: FrozenSegmenter, loader: DataLoader, cached: bool) -> None:
    """Forward, loss, backward and step for each batch."""
    optimizer = torch.optim.AdamW(model.parameters())
    loss = partial(segmentation_loss, dice=1.0)
    for batch in loader:
        loss(model, batch if cached else {"image": batch["image"], "label": batch["label"]}).backward()
        optimizer.step()
        optimizer.zero_grad()


def main() -> None:
    """Measure both encoders, and print seconds and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=48)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    study, found = load_study("sample"), {}
    with tempfile.TemporaryDirectory() as runs:
        os.environ["PETSEG_RUNS"] = runs
        listed = list_pictures(study.data_dir, "trainval")[: options.pictures]
        pictures = decode(listed, SIZE, progress=False)
        batches = range(0, len(pictures), BATCH)
        images = torch.from_numpy(np.array(pictures.images)).permute(0, 3, 1, 2)
        for spec in SPECS:
            encoder = load_encoder(spec, SIZE)
            encoder(images[:BATCH])  # the first pass also sets things up
            encoding = seconds(lambda encoder=encoder: [encoder(images[at : at + BATCH]) for at in batches])
            features = load_features(encoder, pictures, progress=False)
            reading = seconds(lambda features=features: [features.read(slice(at, at + BATCH)) for at in batches])
            model = FrozenSegmenter(encoder, Decoder(encoder.channels, encoder.strides, width=64))
            model.to(memory_format=torch.channels_last)  # as in training
            loader = DataLoader(CachedPictures(pictures, features, 0), BATCH)
            epoch(model, loader, True)
            times = [seconds(lambda m=model, c=cached, b=loader: epoch(m, b, c)) for cached in (True, False)]
            found[spec] = {
                "encode, ms a picture": 1e3 * encoding / len(pictures),
                "read, ms a picture": 1e3 * reading / len(pictures),
                "encode / read": encoding / reading,
                "epoch from the cache, ms a picture": 1e3 * times[0] / len(pictures),
                "epoch with the encoder, ms a picture": 1e3 * times[1] / len(pictures),
                "epoch ratio": times[1] / times[0],
            }
    for spec, values in found.items():
        print(spec, *(f"  {name:38} {value:9.2f}" for name, value in values.items()), sep="\n")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
