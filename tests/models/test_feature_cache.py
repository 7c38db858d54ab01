"""The feature cache: the encoder's own maps, in order, whatever happened while they were written."""

import multiprocessing
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from petseg_utils.apps.cli.main import app
from petseg_utils.data.pictures import join
from petseg_utils.models import feature_cache
from petseg_utils.models.encoders import Encoder
from petseg_utils.models.feature_cache import load_features
from petseg_utils.study import PetsegError


class Counted(nn.Module):
    """A stand-in network that counts the pictures it sees, and can die on the way."""

    def __init__(self, dies_after: int | None = None):
        super().__init__()
        torch.manual_seed(0)
        self.fine, self.coarse = nn.Conv2d(3, 5, 4, 4), nn.Conv2d(3, 7, 16, 16)
        self.seen, self.dies_after = 0, dies_after

    def maps(self, images: torch.Tensor) -> list[torch.Tensor]:
        if self.dies_after is not None and self.seen >= self.dies_after:
            raise KeyboardInterrupt
        self.seen += len(images)
        return [self.fine(images), self.coarse(images)]


def make_encoder(identity: str = "test", dies_after: int | None = None) -> Encoder:
    network = Counted(dies_after)
    return Encoder(identity, network, network.maps, [127.0] * 3, [128.0] * 3, (4, 16), (5, 7))


@pytest.fixture
def pictures(splits, monkeypatch):
    monkeypatch.setattr(feature_cache, "BATCH", 3)
    return splits["train"]


@pytest.fixture
def cache(study):
    return study.cache_dir


def test_cached_maps_are_the_encoders_of_each_picture_and_its_mirror_image(pictures, cache):
    encoder = make_encoder()
    cached = load_features(encoder, pictures, cache, mirrored=True, progress=False)
    assert len(cached) == len(pictures)
    images = torch.from_numpy(np.array(pictures.images)).permute(0, 3, 1, 2)
    for mirrored, seen in ((0, images), (1, images.flip(-1))):
        for ours, wanted in zip(cached.read(slice(None), mirrored), encoder(seen), strict=True):
            assert ours.dtype == torch.float16  # half the size on their way to a GPU, too
            torch.testing.assert_close(ours.float(), wanted, rtol=2e-3, atol=2e-3)
    third = cached.read(2)
    assert [tuple(part.shape) for part in third] == [(5, 16, 16), (7, 4, 4)]
    assert torch.equal(third[0], cached.read(np.array([2]))[0][0])


def test_an_encoder_that_looks_at_twice_the_size_is_shown_the_detail(pictures, cache):
    detail = np.random.default_rng(0).integers(0, 256, (len(pictures), 128, 128, 3), np.uint8)
    network = Counted()
    network.fine, network.coarse = nn.Conv2d(3, 5, 8, 8), nn.Conv2d(3, 7, 32, 32)
    encoder = Encoder("detail", network, network.maps, [127.0] * 3, [128.0] * 3, (4, 16), (5, 7), scale=2)
    with pytest.raises(ValueError, match="read without their detail"):
        load_features(encoder, pictures, cache, progress=False)
    cached = load_features(encoder, replace(pictures, detail=detail), cache, mirrored=True, progress=False)
    images = torch.from_numpy(detail).permute(0, 3, 1, 2)
    for mirrored, seen in ((0, images), (1, images.flip(-1))):
        for ours, wanted in zip(cached.read(slice(None), mirrored), encoder(seen), strict=True):
            torch.testing.assert_close(ours.float(), wanted, rtol=2e-3, atol=2e-3)
    assert [part.shape[-1] for part in cached.maps] == [16, 4]  # of the square that masks are made for, as ever


def test_the_second_time_no_picture_is_encoded(pictures, cache):
    load_features(make_encoder(), pictures, cache, progress=False)
    again = make_encoder()
    load_features(again, pictures, cache, progress=False)
    assert again.network.seen == 0


def test_mirror_images_are_encoded_where_they_are_asked_for_alone(pictures, cache):
    encoder = make_encoder()
    plain = load_features(encoder, pictures, cache, progress=False)
    assert encoder.network.seen == len(pictures)
    with pytest.raises(ValueError, match="without those of the mirror images"):
        plain.read(0, mirrored=1)
    load_features(encoder, pictures, cache, mirrored=True, progress=False)
    assert encoder.network.seen == 2 * len(pictures)


def test_a_run_that_was_cut_goes_on_where_it_was(pictures, cache):
    whole = load_features(make_encoder("whole"), pictures, cache, progress=False)
    with pytest.raises(KeyboardInterrupt):
        load_features(make_encoder("cut", dies_after=6), pictures, cache, progress=False)
    folder = folder_of("cut", cache)
    with (folder / "map1.f16").open("ab") as file:
        file.write(b"half a picture")  # as a kill leaves it
    with (folder / "contents.txt").open("a") as file:
        file.write("half a ha")
    second = make_encoder("cut")
    resumed = load_features(second, pictures, cache, progress=False)
    assert second.network.seen == len(pictures) - 6
    assert all(torch.equal(*pair) for pair in zip(whole.read(slice(None)), resumed.read(slice(None)), strict=True))


def folder_of(identity, cache):
    (folder,) = [card.parent for card in cache.glob("features-*/card.json") if f'"{identity}"' in card.read_text()]
    return folder


@pytest.mark.parametrize(("fault", "encoded"), [("end lost", 1), ("gone", None), ("list gone", None)])
def test_what_a_cache_lost_is_encoded_again(pictures, cache, fault, encoded):
    whole = [maps.clone() for maps in load_features(make_encoder(), pictures, cache, progress=False).read(slice(None))]
    folder = folder_of("test", cache)
    file = folder / "map1.f16"
    if fault == "end lost":
        file.write_bytes(file.read_bytes()[:-2])
    elif fault == "gone":
        file.unlink()
    else:
        (folder / "contents.txt").unlink()
    again = make_encoder()
    mended = load_features(again, pictures, cache, progress=False)
    assert again.network.seen == (encoded or len(pictures))
    assert all(torch.equal(*pair) for pair in zip(whole, mended.read(slice(None)), strict=True))


def test_sets_that_share_pictures_share_their_features(pictures, cache, splits):
    """Of a training on few labels, and of pictures that are joined with others, each picture is encoded once."""
    encoder = make_encoder()
    first = load_features(encoder, pictures, cache, progress=False)
    turned = pictures.subset(pictures.table["name"][::-1].tolist()[:5])
    few = load_features(encoder, turned, cache, progress=False)
    assert encoder.network.seen == len(pictures) and len(few) == 5
    assert torch.equal(few.read(1)[0], first.read(len(pictures) - 2)[0])
    both = load_features(encoder, join(splits["test"], turned), cache, progress=False)
    assert encoder.network.seen == len(pictures) + len(splits["test"])
    assert torch.equal(both.read(np.array([len(splits["test"])]))[1][0], few.read(0)[1])
    twice = pictures.subset([pictures.table["name"][0]] * 2)
    assert torch.equal(*load_features(make_encoder("twice"), twice, cache, progress=False).read(slice(None))[0])
    load_features(make_encoder("other"), pictures, cache, progress=False)
    assert len(list(cache.glob("features-*"))) == 3  # one for each encoder


def _load(pictures, cache, queue):
    encoder = make_encoder()
    total = sum(
        float(held.astype(np.float64).sum()) for held in load_features(encoder, pictures, cache, progress=False).maps
    )
    queue.put((encoder.network.seen, total))


def test_of_two_processes_one_computes_and_the_other_waits(pictures, cache):
    context = multiprocessing.get_context("spawn")  # a forked process hangs in threads that it has not
    queue = context.Queue()
    pictures = replace(pictures, images=np.array(pictures.images))
    both = [context.Process(target=_load, args=(pictures, cache, queue), daemon=True) for _ in range(2)]
    for process in both:
        process.start()
    results = sorted(queue.get(timeout=60) for _ in both)
    for process in both:
        process.join(60)
    assert [seen for seen, _ in results] == [0, len(pictures)]
    assert results[0][1] == results[1][1]


def test_a_full_disk_is_told_with_the_size_and_nothing_is_lost(pictures, cache, monkeypatch):
    class Full(feature_cache.tqdm):
        def update(self, n=1):
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(feature_cache, "tqdm", Full)
        with pytest.raises(PetsegError, match=r"\(No space left on device\). It needs 0 MB .* PETSEG_RUNS.*goes on"):
            load_features(make_encoder(), pictures, cache, progress=False)
    after = make_encoder()
    load_features(after, pictures, cache, progress=False)
    assert after.network.seen == len(pictures) - 3


def test_a_disk_that_is_too_full_is_told_before_anything_is_encoded(pictures, cache, monkeypatch):
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000))
    encoder = make_encoder()
    with pytest.raises(PetsegError, match=rf"features of {len(pictures)} pictures by test need .* where 0 MB are free"):
        load_features(encoder, pictures, cache, progress=False)
    assert encoder.network.seen == 0


def test_size_is_logged_and_caches_are_listed_and_cleared(pictures, cache, caplog, monkeypatch):
    caplog.set_level("INFO")
    load_features(make_encoder("small"), pictures, cache, progress=False)
    assert "Features of" not in caplog.text  # of dozens of small runs that would be a wall of lines
    monkeypatch.setattr(feature_cache, "WORTH_SAYING", 1)
    load_features(make_encoder(), pictures, cache, progress=False)
    wanted = len(pictures) * 2 * (5 * 16 * 16 + 7 * 4 * 4) / 1e6
    assert f"Features of {len(pictures)} pictures by test: {wanted:,.0f} MB" in caplog.text
    run = CliRunner()
    listed = run.invoke(app, ["data", "cache"]).output
    assert f"features of {len(pictures)} pictures by test" in listed and "decoded pictures" in listed
    assert "Deleted." in run.invoke(app, ["data", "cache", "--clear"]).output
    assert feature_cache.caches(cache) == []


@pytest.mark.parametrize("card", [b"", b"[]", b"{}", b"\xff", None])
def test_features_whose_card_is_empty_are_listed_cleared_and_made_anew(pictures, cache, card):
    load_features(make_encoder(), pictures, cache, progress=False)
    (path,) = cache.glob("features-*/card.json")
    path.unlink() if card is None else path.write_bytes(card)
    run = CliRunner()
    listed = run.invoke(app, ["data", "cache"])
    assert listed.exit_code == 0 and "features that cannot be used" in listed.output
    load_features(make_encoder(), pictures, cache, progress=False)
    assert "features that cannot be used" not in run.invoke(app, ["data", "cache"]).output
    path.write_bytes(card or b"")
    assert run.invoke(app, ["data", "cache", "--clear"]).exit_code == 0 and not cache.exists()


@pytest.mark.parametrize("damage", [lambda text: text.replace(b"\n", b"", 1), lambda text: b"\xff" + text[1:]])
def test_maps_are_not_taken_for_other_pictures_where_the_list_of_them_is_damaged(pictures, cache, damage):
    right = load_features(make_encoder(), pictures, cache, progress=False).read(slice(None))
    (path,) = cache.glob("features-*/contents.txt")
    path.write_bytes(damage(path.read_bytes()))
    again = load_features(make_encoder(), pictures, cache, progress=False).read(slice(None))
    assert all(torch.equal(*pair) for pair in zip(right, again, strict=True))
