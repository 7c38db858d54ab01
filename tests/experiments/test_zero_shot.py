"""What CLIP's words find, worked out from the weights by plain algebra."""

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from petseg_utils.experiments import zero_shot
from petseg_utils.experiments.zero_shot import TEMPLATES, embed_words, patch_features, segment_by_words
from petseg_utils.models.clip import load_clip
from petseg_utils.models.encoders import load_encoder
from tests.models.tiny_clip import write_checkpoint

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}  # as the tokenizer has it
PATCH, WIDTH, HEADS = 8, 64, 4


@pytest.fixture
def clip(tmp_path):
    """The spec of a small CLIP with random weights, trained at 32 pixels, and these weights by their names."""
    path = write_checkpoint(tmp_path, "tiny-words", text_cfg=TEXT)
    return f"clip:tiny-words/{path}", load_file(path)


def norm(tokens, weights, name):
    centred = tokens - tokens.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(tokens, weights, name):
    return tokens @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def by_algebra(weights, image):
    """Output tokens and value features of one normalised picture (3, S, S): each (S / 8, S / 8, 16), of length 1."""
    side = image.shape[-1] // PATCH
    cells = image.unfold(1, PATCH, PATCH).unfold(2, PATCH, PATCH).permute(1, 2, 0, 3, 4).reshape(side * side, -1)
    patches = cells @ weights["visual.conv1.weight"].flatten(1).T
    places = weights["visual.positional_embedding"]
    grid = places[1:].reshape(1, 4, 4, WIDTH).movedim(-1, 1)
    grid = F.interpolate(grid, size=(side, side), mode="bicubic", antialias=True)
    tokens = torch.cat([weights["visual.class_embedding"][None] + places[:1], patches + grid[0].flatten(1).T])
    tokens = norm(tokens, weights, "visual.ln_pre")
    for number in range(4):
        block = f"visual.transformer.resblocks.{number}"
        weight, bias = (weights[f"{block}.attn.in_proj_{kind}"] for kind in ("weight", "bias"))
        seen = norm(tokens, weights, f"{block}.ln_1")
        query, key, value = (seen @ weight[i : i + WIDTH].T + bias[i : i + WIDTH] for i in (0, WIDTH, 2 * WIDTH))
        own = linear(value, weights, f"{block}.attn.out_proj")  # the last block's are what is wanted
        heads = []
        for k in range(HEADS):
            part = slice(k * WIDTH // HEADS, (k + 1) * WIDTH // HEADS)
            attention = (query[:, part] @ key[:, part].T / (WIDTH / HEADS) ** 0.5).softmax(-1)
            heads.append(attention @ value[:, part])
        tokens = tokens + linear(torch.cat(heads, -1), weights, f"{block}.attn.out_proj")
        hidden = F.gelu(linear(norm(tokens, weights, f"{block}.ln_2"), weights, f"{block}.mlp.c_fc"))
        tokens = tokens + linear(hidden, weights, f"{block}.mlp.c_proj")
    found = []
    for kind in (tokens, own):
        out = norm(kind[1:], weights, "visual.ln_post") @ weights["visual.proj"]
        found.append((out / out.norm(dim=-1, keepdim=True)).reshape(side, side, -1))
    return dict(zip(("output tokens", "value features"), found, strict=True))


def words_by_hand(model):
    """Each word's class, and its embedding, sentence by sentence."""
    tokenize = open_clip.get_tokenizer("tiny-words")
    classes, embeddings = [], []
    for number, name in enumerate(("background", "cat", "dog")):
        for word in zero_shot.WORDS[name]:
            directions = []
            for template in TEMPLATES:
                with torch.no_grad():
                    embedding = model.encode_text(tokenize([template.replace("{}", word)]))[0].numpy()
                directions.append(embedding / np.linalg.norm(embedding))
            mean = np.mean(directions, axis=0)
            classes.append(number)
            embeddings.append(mean / np.linalg.norm(mean))
    return np.array(classes), np.stack(embeddings)


@pytest.mark.parametrize("size", [32, 64])
def test_features_of_patches_are_those_of_plain_algebra(clip, size, no_network):
    spec, weights = clip
    image = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    found = patch_features(load_clip(spec, size)[0].visual, image)
    for number in range(2):
        wanted = by_algebra(weights, image[number])
        assert found.keys() == wanted.keys()
        for name in wanted:
            torch.testing.assert_close(found[name][number], wanted[name], atol=2e-5, rtol=0)
    assert not torch.allclose(found["output tokens"], found["value features"], atol=0.1)


def test_a_word_is_the_mean_direction_of_its_sentences(clip, no_network):
    spec, _ = clip
    model = load_clip(spec, 32)[0]
    np.testing.assert_allclose(embed_words(model, spec), words_by_hand(model)[1], atol=1e-5)


def test_a_pixel_has_the_class_whose_best_word_it_resembles_most(clip, splits, monkeypatch, no_network):
    spec, weights = clip
    tag = {"mean": (0.2, 0.5, 0.7), "std": (0.1, 0.2, 0.4)}
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda name, _: tag if name == "tiny-words" else {})
    # To random weights these words mean nothing; so divided, they find all three classes.
    words = {"background": ("flower", "window", "sand"), "cat": ("door", "cat"), "dog": ("table", "water")}
    monkeypatch.setattr(zero_shot, "WORDS", words)
    test = splits["test"]
    found = segment_by_words(spec, test)
    classes, directions = words_by_hand(load_clip(spec, 64)[0])
    wanted, clear = ({name: np.empty(test.labels.shape, kind) for name in found} for kind in (np.uint8, bool))
    for number, image in enumerate(np.array(test.images)):
        pixels = torch.from_numpy((image / 255 - tag["mean"]) / tag["std"]).float().permute(2, 0, 1)
        for name, patches in by_algebra(weights, pixels).items():
            cosines = torch.tensordot(torch.from_numpy(directions), patches, ([1], [2]))
            enlarged = F.interpolate(cosines[None], size=(64, 64), mode="bilinear", align_corners=False)[0].numpy()
            scores = np.stack([enlarged[classes == k].max(0) for k in range(3)])
            wanted[name][number] = scores.argmax(0)
            clear[name][number] = np.diff(np.sort(scores, axis=0)[-2:], axis=0)[0] > 1e-4  # no tie, but for rounding
    assert list(found) == ["output tokens", "value features"]
    for name in found:
        assert found[name].dtype == np.uint8
        assert (np.bincount(wanted[name].ravel(), minlength=3) > 100).all() and clear[name].mean() > 0.95
        assert (found[name] == wanted[name])[clear[name]].all()


def test_the_encoder_normalises_as_the_words_do(clip, monkeypatch, no_network):
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda *_: {"mean": (0.2, 0.4, 0.6), "std": (0.1, 0.2, 0.4)})
    encoder = load_encoder(clip[0], 32)
    torch.testing.assert_close(encoder.mean.flatten(), 255 * torch.tensor([0.2, 0.4, 0.6]))
    torch.testing.assert_close(encoder.std.flatten(), 255 * torch.tensor([0.1, 0.2, 0.4]))
