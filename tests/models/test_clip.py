"""CLIP's weights are looked for on disk, and fetched on request alone."""

import urllib.error
import urllib.request

import huggingface_hub
import pytest
from huggingface_hub import constants

from petseg_utils.models.clip import CLIP, clip_weights, download_clip
from petseg_utils.models.encoders import load_encoder
from petseg_utils.study import PetsegError


def test_weights_in_the_hubs_cache_are_found_without_a_network(tmp_path, monkeypatch, no_network):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert clip_weights("ViT-B-16-quickgelu", "openai") is None
    assert clip_weights("ViT-B-16", "laion2b_s34b_b88k") is None  # which no other place than the hub has
    with pytest.raises(PetsegError, match=r"are not on this disk. `petseg data download --clip` fetches"):
        load_encoder("clip:ViT-B-16-quickgelu/openai")
    folder = tmp_path / "models--timm--vit_base_patch16_clip_224.openai"
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    file = folder / "snapshots" / "abc" / "open_clip_model.safetensors"
    file.write_bytes(b"weights")
    assert clip_weights("ViT-B-16-quickgelu", "openai") == file


def test_download_of_clip_without_a_hub_ends_with_a_sentence(monkeypatch):
    def unreachable(*arguments, **options):
        raise OSError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    with pytest.raises(PetsegError, match=r"could not be fetched from the Hugging Face hub \(no route to host\)"):
        download_clip()


def test_download_of_clip_asks_the_hub_for_the_file_that_is_looked_for(monkeypatch):
    asked = []

    def unfriendly(request, **options):
        raise urllib.error.HTTPError(request.full_url, 403, "Forbidden", {}, None)

    monkeypatch.setattr(urllib.request, "urlopen", unfriendly)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *wanted: asked.append(wanted))
    assert download_clip() == CLIP
    assert asked == [("timm/vit_base_patch16_clip_224.openai", "open_clip_model.safetensors")]
