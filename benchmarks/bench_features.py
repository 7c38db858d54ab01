"""What the feature cache saves: reading against encoding, and an epoch of the decoder with and without it.

Usage: python benchmarks/bench_features.py [--pictures 48] [--width 64] [--json OUT]

The pictures are drawn for it, at 224 px.  The decoder is as wide as the sample study's unless --width says otherwise: a
wider one takes longer itself and gains less from the cache.  Epochs with and without the cache take turns, and the
fastest of each counts, as other work on the machine can only slow them down.
The vision transformer is a ViT-B/16 with random weights, which take as long as trained ones.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from petseg_utils.data.datasets import list_pictures
from petseg_utils.data.drawing.sample import draw_sample
from petseg_utils.data.pictures import PictureSet, decode
from petseg_utils.data.tensors import to_tensor
from petseg_utils.models.decoder import Decoder, FrozenSegmenter
from petseg_utils.models.encoders import LITE, TWICE_LITE, load_encoder
from petseg_utils.models.feature_cache import load_features
from petseg_utils.study import load_study
from petseg_utils.training.batches import Key, TrainingPictures, as_example, mirrored
from petseg_utils.training.losses import segmentation_loss

SIZE, BATCH, EPOCHS = 224, 8, 5
SPECS = (LITE, TWICE_LITE, "clip:ViT-B-16-quickgelu/random")


def without_maps(pictures: PictureSet, row: int, _: Key) -> dict[str, Tensor]:
    """Return a picture as it is: the encoder has to make its feature maps."""
    return as_example(pictures.images[row], pictures.labels[row])


def seconds(action: Callable[[], object]) -> float:
    """Return the wall-clock seconds of a call."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def epoch(model: FrozenSegmenter, loader: DataLoader) -> None:
    """Do forward pass, loss, backward pass and step for each batch; the encoder runs if a batch has no maps."""
    optimizer = torch.optim.AdamW(model.parameters(), foreach=True)  # as in training
    for batch in loader:
        segmentation_loss(model, batch, dice=1.0).backward()
        optimizer.step()
        optimizer.zero_grad()


def measure(spec: str, pictures: PictureSet, width: int, cache: Path) -> dict[str, float]:
    """Return milliseconds per picture for one encoder and for a decoder on it, and their ratios."""
    batches = [slice(start, start + BATCH) for start in range(0, len(pictures), BATCH)]
    images = to_tensor(pictures.images)
    encoder = load_encoder(spec, SIZE)
    encoder(images[:BATCH])  # the first pass also sets things up
    encoding = seconds(lambda: [encoder(images[rows]) for rows in batches])
    features = load_features(encoder, pictures, cache, mirrored=True, progress=False)
    reading = seconds(lambda: [features.read(rows) for rows in batches])
    model = FrozenSegmenter(encoder, Decoder(encoder.channels, encoder.strides, width=width))
    model.to(memory_format=torch.channels_last)  # as in training
    makes = (mirrored(features), without_maps)
    loaders = [DataLoader(TrainingPictures(pictures, 0, make), BATCH) for make in makes]
    epoch(model, loaders[0])
    turns = [[seconds(lambda loader=loader: epoch(model, loader)) for loader in loaders] for _ in range(EPOCHS)]
    cached, plain = 1e3 * np.min(turns, axis=0) / len(pictures)
    return {
        "encode, ms a picture": 1e3 * encoding / len(pictures),
        "read, ms a picture": 1e3 * reading / len(pictures),
        "encode / read": encoding / reading,
        "epoch from the cache, ms a picture": cached,
        "epoch with the encoder, ms a picture": plain,
        "epoch ratio": plain / cached,
    }


def main() -> None:
    """Measure all three encoders, and print milliseconds per picture and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=48)
    parser.add_argument("--width", type=int, help="channels of the decoder; by default the sample study's")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the numbers to this file")
    options = parser.parse_args()
    width = options.width or load_study("sample").models["decoder"].width
    with tempfile.TemporaryDirectory() as folder:
        data, cache = draw_sample(Path(folder) / "pets", options.pictures, 2, progress=False), Path(folder) / "cache"
        pictures = decode(list_pictures(data, "trainval"), SIZE, cache, progress=False)
        numbers = {spec: measure(spec, pictures, width, cache) for spec in SPECS}
    print(f"decoder of width {width}")
    for spec, values in numbers.items():
        print(spec, *(f"  {name:38} {value:9.2f}" for name, value in values.items()), sep="\n")
    if options.json:
        options.json.write_text(json.dumps(numbers, indent=2) + "\n")


if __name__ == "__main__":
    main()
