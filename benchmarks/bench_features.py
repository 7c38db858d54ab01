"""What the feature cache saves: reading against encoding, and an epoch of the decoder with and without it.

Usage: python benchmarks/bench_features.py [--pictures 48] [--width 64] [--json OUT]

The sample's pictures, at 224 px. The decoder is as wide as the sample study's, unless --width says otherwise: a wider
one takes longer itself, and gains less from the cache. Epochs with and without the cache take turns; the fastest of
each counts, for what slows one down is the rest of the machine.
The vision transformer is a ViT-B/16 with random weights: they take as long as trained ones.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from petseg_utils.datasets import list_pictures
from petseg_utils.decoder import Decoder, FrozenSegmenter
from petseg_utils.encoders import LITE, TWICE_LITE, load_encoder
from petseg_utils.evaluation import segmentation_loss
from petseg_utils.examples import CachedPictures
from petseg_utils.features import load_features
from petseg_utils.models import draw_study_data
from petseg_utils.pictures import PictureSet, decode
from petseg_utils.study import load_study

SIZE, BATCH, EPOCHS = 224, 8, 5
SPECS = (LITE, TWICE_LITE, "clip:ViT-B-16-quickgelu/random")


class Plain(Dataset):
    """Pictures as they are, without maps: what the cache saves the encoder from."""

    def __init__(self, pictures: PictureSet):
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """``image`` ``uint8 (3, H, W)`` and ``label`` ``uint8 (H, W)``."""
        image = np.array(self.pictures.images[index].transpose(2, 0, 1), order="C")
        return {"image": torch.from_numpy(image), "label": torch.from_numpy(np.array(self.pictures.labels[index]))}


def seconds(action) -> float:
    """Wall-clock seconds of a call."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def epoch(model: FrozenSegmenter, loader: DataLoader) -> None:
    """Forward, loss, backward and step for each batch; the encoder works where a batch has no maps."""
    optimizer = torch.optim.AdamW(model.parameters(), foreach=True)  # as in training
    for batch in loader:
        segmentation_loss(model, batch, dice=1.0).backward()
        optimizer.step()
        optimizer.zero_grad()


def main() -> None:
    """Measure both encoders, and print seconds and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=48)
    parser.add_argument("--width", type=int, help="channels of the decoder; by default the sample study's")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    study, found = load_study("sample"), {}
    width = options.width or study.clip.width
    with tempfile.TemporaryDirectory() as runs:
        os.environ["PETSEG_RUNS"] = runs
        draw_study_data(study)
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
            model = FrozenSegmenter(encoder, Decoder(encoder.channels, encoder.strides, width=width))
            model.to(memory_format=torch.channels_last)  # as in training
            loaders = [DataLoader(kind, BATCH) for kind in (CachedPictures(pictures, features, 0), Plain(pictures))]
            epoch(model, loaders[0])
            turns = [[seconds(lambda m=model, b=loader: epoch(m, b)) for loader in loaders] for _ in range(EPOCHS)]
            cached, plain = 1e3 * np.min(turns, axis=0) / len(pictures)
            found[spec] = {
                "encode, ms a picture": 1e3 * encoding / len(pictures),
                "read, ms a picture": 1e3 * reading / len(pictures),
                "encode / read": encoding / reading,
                "epoch from the cache, ms a picture": cached,
                "epoch with the encoder, ms a picture": plain,
                "epoch ratio": plain / cached,
            }
    print(f"decoder of width {width}")
    for spec, values in found.items():
        print(spec, *(f"  {name:38} {value:9.2f}" for name, value in values.items()), sep="\n")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
