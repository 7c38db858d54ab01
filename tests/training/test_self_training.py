"""Pictures without masks: species from names, proposed masks, nothing of the other splits among them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from petseg_utils.data.labels import BORDER, PADDING
from petseg_utils.data.pictures import join
from petseg_utils.data.unlabelled import list_unlabelled, read_unlabelled
from petseg_utils.models.cards import read_card
from petseg_utils.models.decoder import Decoder, FrozenSegmenter
from petseg_utils.models.encoders import LITE, load_encoder
from petseg_utils.models.feature_cache import load_features
from petseg_utils.study import PetsegError
from petseg_utils.training import self_training
from petseg_utils.training import train as training
from petseg_utils.training.checkpoints import run_folder
from petseg_utils.training.recipes import recipe_of
from petseg_utils.training.recipes.point import starts_from
from petseg_utils.training.self_training import propose_masks
from petseg_utils.training.train import repeated, train, trained, unlabelled_pictures


class Bright(nn.Module):
    """Says pet where a picture is bright: surely above 200, perhaps around 128, surely not below 60; always a dog."""

    encoder = None

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, images):
        pet = (images.mean(1, keepdim=True) - 128) / 20
        return torch.cat([-pet, torch.full_like(pet, -30), pet], 1)


class Nothing(Bright):
    """Sure that there is no pet anywhere."""

    def forward(self, images):
        logits = torch.full_like(images, -20.0)
        logits[:, 0] = 20
        return logits


class Left(Bright):
    """Sure of a pet in the left half of whatever it is shown, and of none in the right."""

    def forward(self, images):
        pet = torch.full_like(images[:, :1], 20.0)
        pet[..., images.shape[-1] // 2 :] = -20
        return torch.cat([-pet, torch.full_like(pet, -30), pet], 1)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "more").mkdir()
    for name in ("Siam_1", "Siam_2", "corgi_1", "corgi_2"):
        image = rng.integers(0, 20, (40, 60, 3))
        if name != "corgi_2":  # in which there is nothing to be found
            image[10:30, 10:40] = 230
            image[10:30, 40:50] = 128
        Image.fromarray(image.astype(np.uint8)).save(tmp_path / "more" / f"{name}.png")
    return tmp_path / "more"


def test_masks_say_where_from_the_model_and_what_from_the_name(folder):
    pictures = read_unlabelled(list_unlabelled(folder), 60, progress=False)
    proposed = propose_masks([Bright()], pictures, progress=False)
    by_name = dict(zip(proposed.table["name"], proposed.labels, strict=True))
    assert len(by_name) == len(pictures) == 4
    assert set(np.unique(by_name["corgi_2"])) == {BORDER, PADDING}  # no pet was found: nothing is learned from it
    cat, dog = by_name["Siam_1"], by_name["corgi_1"]
    assert (cat[25:35, 15:35] == 1).all() and (dog[25:35, 15:35] == 2).all()
    assert (cat[25:35, 43:47] == BORDER).all()  # the model could not say
    assert (cat[12:18, 2:8] == 0).all()
    assert np.array_equal(cat == PADDING, pictures.labels[0] == PADDING)
    assert proposed.fingerprint != pictures.fingerprint


def test_teachers_that_disagree_leave_a_pixel_without_a_label(folder):
    pictures = read_unlabelled(list_unlabelled(folder), 60, progress=False)
    alone, together = (
        propose_masks(teachers, pictures, progress=False).labels[0] for teachers in ([Bright()], [Bright(), Nothing()])
    )
    assert (alone[25:35, 15:35] == 1).all()
    assert set(np.unique(together)) == {BORDER, PADDING}  # one of two says pet, and no picture without one teaches


def test_a_pixel_of_which_the_mirror_image_says_otherwise_gets_no_label(folder):
    pictures = read_unlabelled(list_unlabelled(folder), 60, progress=False)
    assert set(np.unique(propose_masks([Left()], pictures, progress=False).labels)) == {BORDER, PADDING}


def test_decoders_of_all_seeds_propose_together(folder, study, splits, monkeypatch):
    by_seed = {0: Bright(), 1: Nothing()}
    monkeypatch.setattr(training, "trained", lambda model, study, seed, splits, **options: by_seed[seed])
    monkeypatch.setattr(training, "load_features", lambda *arguments, **options: None)  # these see the pictures only
    recipe, pets = recipe_of("decoder_selftrained"), []
    for seeds in ((0,), (0, 1), (1, 0)):
        changed = replace(study, seeds=seeds, unlabelled_dir=folder)
        proposed = unlabelled_pictures(recipe, changed, splits, study.settings("decoder"), progress=False)
        pets.append(int(np.isin(proposed.labels, (1, 2)).sum()))
    assert pets[0] > 0 and pets[1:] == [0, 0]  # one of two says that there is no pet


def test_cached_features_propose_the_same_masks(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(self_training, "SURE", 0.5)  # what is not trained is never surer
    encoder = load_encoder(LITE, 64)
    torch.manual_seed(0)
    model = FrozenSegmenter(encoder, Decoder(encoder.channels, encoder.strides, width=16)).eval()
    pictures = read_unlabelled(list_unlabelled(folder), 64, progress=False)
    features = load_features(encoder, pictures, tmp_path / "cache", mirrored=True, progress=False)
    fresh, cached = (propose_masks([model], pictures, given, progress=False) for given in (None, features))
    assert len(np.unique(fresh.labels)) > 2
    assert (fresh.labels != cached.labels).mean() < 0.001  # float16


def test_a_student_trains_on_the_teachers_masks_and_says_so_in_its_card(folder, study, splits, monkeypatch):
    with pytest.raises(PetsegError, match=r"Study 'smoke' has no settings \[models.decoder_selftrained\]"):
        train("decoder_selftrained", study, 0, splits, progress=False)
    settings = replace(study.settings("decoder"), epochs=1)
    study = replace(study, models=study.models | {"decoder": settings, "decoder_selftrained": settings})
    with pytest.raises(PetsegError, match="set PETSEG_UNLABELLED to their folder"):
        train("decoder_selftrained", study, 0, splits, progress=False)
    study = replace(study, unlabelled_dir=folder)
    shared = splits["validation"].table["name"].iloc[0]  # a validation picture among them must stay out
    Image.fromarray(np.array(splits["validation"].images[0])).save(folder / f"{shared}.png")
    monkeypatch.setattr(
        training, "propose_masks", lambda _, more, features, **options: propose_masks([Bright()], more, **options)
    )
    seen = []
    monkeypatch.setattr(training, "join", lambda *sets: seen.append(join(*sets)) or seen[-1])
    train("decoder_selftrained", study, 0, splits, progress=False)
    assert shared not in set(seen[0].table["name"])
    card = read_card(run_folder("decoder_selftrained", study, 0) / "best.safetensors")
    assert card["more"]["n_images"] == 4
    assert card["data"] == splits["train"].fingerprint and card["n_images"] == len(splits["train"])
    trained("decoder_selftrained", study, 0, splits, progress=False)
    assert len(seen) == 1  # the second time it was loaded
    (folder / "Siam_1.png").unlink()
    trained("decoder_selftrained", study, 0, splits, progress=False)
    assert len(seen) == 2  # with other pictures it is another run


def test_the_point_model_starts_from_the_self_trained_decoder_if_that_has_its_width(folder, study):
    point, decoder = study.settings("point"), study.settings("decoder")
    fits = replace(study, models=study.models | {"decoder_selftrained": replace(decoder, width=point.width)})
    wider = replace(study, models=study.models | {"decoder_selftrained": replace(decoder, width=2 * point.width)})
    assert starts_from(fits) == "decoder"  # no pictures for self-training
    assert starts_from(replace(fits, unlabelled_dir=folder)) == "decoder_selftrained"
    assert starts_from(replace(wider, unlabelled_dir=folder)) == "decoder"
    assert starts_from(replace(study, unlabelled_dir=folder)) == "decoder"  # it has no self-trained one


def test_a_decoder_learns_from_masks_that_a_teacher_proposes_at_the_share_asked_for(folder, study, splits, monkeypatch):
    settings = replace(study.settings("decoder"), epochs=1, unlabelled=0.25, examples=12)
    study = replace(study, models=study.models | {"decoder": settings})
    with pytest.raises(PetsegError, match="set PETSEG_UNLABELLED to their folder"):
        train("decoder", study, 0, splits, progress=False)
    study = replace(study, unlabelled_dir=folder)
    with pytest.raises(PetsegError, match="--teacher"):
        train("decoder", study, 0, splits, progress=False)
    teacher = study.runs_dir / "teacher" / "best.safetensors"
    plain = replace(study, models=study.models | {"decoder": replace(settings, unlabelled=0.0, examples=0)})
    train("decoder", plain, 0, splits, folder=teacher.parent, progress=False)
    drawn = []
    make = training.draw_examples
    monkeypatch.setattr(training, "draw_examples", lambda *a, **k: drawn.append((a, make(*a, **k))) or drawn[-1][1])
    train("decoder", study, 0, splits, teacher=teacher, progress=False)
    (pictures, _, _, number, rows), examples = drawn[0]
    assert number == len(examples) == 12 and len(pictures) == len(splits["train"]) + 4
    others = [row for row in rows if row >= len(splits["train"])]
    assert sorted(others) == list(range(len(splits["train"]), len(pictures)))
    card = read_card(run_folder("decoder", study, 0) / "best.safetensors")
    assert card["more"]["n_images"] == 4 and card["n_images"] == len(splits["train"])
    assert card["start"][0]["seed"] == 0 and card["unlabelled"]["n_images"] == 4


@pytest.mark.parametrize(("labelled", "others", "share"), [(650, 3300, 0.4), (24, 4, 0.25), (10, 1000, 0.5)])
def test_labelled_pictures_are_repeated_until_the_others_are_their_share(labelled, others, share):
    rows = repeated(labelled, others, share)
    counts = np.bincount(rows)
    assert len(counts) == labelled + others and set(counts[labelled:]) == {1} and len(set(counts[:labelled])) == 1
    assert others / len(rows) == pytest.approx(share, rel=0.1) or counts[0] == 1
