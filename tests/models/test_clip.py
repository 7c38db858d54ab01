"""CLIP's weights: looked for on disk, read from every known format or refused in a line, fetched on request alone."""

import contextlib
import hashlib
import os
import subprocess
import sys
import threading
import warnings
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import open_clip
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from petseg_utils.models import clip
from petseg_utils.models.clip import CLIP, clip_weights, download_clip, load_clip
from petseg_utils.models.encoders import encoder_identity, load_encoder, resolve
from petseg_utils.models.names import encoder_title
from petseg_utils.study import PetsegError
from petseg_utils.training.conditions import conditions, first_difference
from petseg_utils.training.recipes import recipe_of
from tests.models.tiny_clip import register, write_checkpoint

REPOSITORY = "timm/vit_base_patch16_clip_224.openai"  # of the study's CLIP


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the hub's client, and an empty home."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    resolve.cache_clear()
    yield tmp_path
    resolve.cache_clear()


def cached(folder, name="open_clip_model.safetensors"):
    """Where the hub's client keeps a file of the study's CLIP."""
    repository = folder / "hub" / f"models--{REPOSITORY.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    (repository / "refs" / "main").write_text("abc")
    (repository / "snapshots" / "abc").mkdir(parents=True, exist_ok=True)
    return repository / "snapshots" / "abc" / name


def write_script(path):
    """A TorchScript archive, as OpenAI's own package leaves it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # torch has newer ways to export
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(path))


def test_weights_in_the_hubs_cache_are_found_without_a_network(cache, no_network):
    assert clip_weights("ViT-B-16-quickgelu", "openai") is None
    assert clip_weights("ViT-B-16", "laion2b_s34b_b88k") is None  # which no other place than the hub has
    with pytest.raises(PetsegError, match=rf"not on this disk.*`petseg data download --clip {CLIP}` fetches them"):
        load_encoder(CLIP)
    save_file({"a": torch.zeros(1)}, cached(cache))
    assert clip_weights("ViT-B-16-quickgelu", "openai") == cached(cache)
    assert resolve("auto") == CLIP


def test_an_archive_that_may_run_code_is_passed_over_and_the_search_goes_on(cache, no_network):
    archive = cache / "home" / ".cache" / "clip" / "ViT-B-16.pt"
    write_script(archive)
    assert clip_weights("ViT-B-16-quickgelu", "openai") is None
    assert resolve("auto") == "lite:efficientnet_lite0+2x"
    with pytest.raises(PetsegError, match="or not in a file that can be opened safely") as refused:
        load_encoder(CLIP)
    assert "weights_only" not in str(refused.value)
    cached(cache).write_bytes(b"<html>not found")  # what some proxies leave
    assert clip_weights("ViT-B-16-quickgelu", "openai") is None
    torch.save({"a": torch.zeros(1)}, cached(cache, "open_clip_pytorch_model.bin"))
    assert clip_weights("ViT-B-16-quickgelu", "openai") == cached(cache, "open_clip_pytorch_model.bin")


def test_a_damaged_file_is_told_from_one_that_may_run_code(tmp_path):
    register(tmp_path, "tiny-vit")
    write_script(tmp_path / "script.pt")
    with pytest.raises(PetsegError, match=r"script.pt is a TorchScript archive.*Use the weights as safetensors") as no:
        load_encoder(f"clip:tiny-vit/{tmp_path}/script.pt", 32)
    assert "weights_only" not in str(no.value) and "\n" not in str(no.value)
    whole = write_checkpoint(tmp_path, "tiny-vit")
    (tmp_path / "cut.safetensors").write_bytes(whole.read_bytes()[:-5000])
    (tmp_path / "empty.pt").touch()
    for name in ("cut.safetensors", "empty.pt"):
        with pytest.raises(PetsegError, match=f"^{name} is damaged, or not a file of weights.*Fetch it anew") as no:
            load_encoder(f"clip:tiny-vit/{tmp_path}/{name}", 32)
        assert "\n" not in str(no.value)


def maps_of(path, size=32):
    images = torch.randint(0, 256, (2, 3, size, size), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    return load_encoder(f"clip:tiny-vit/{path}", size)(images)


def as_transformers(tensors, heads=("vision_model", "text_model")):
    """The same weights as transformers' CLIPModel has them: other names, three projections apart, others transposed."""
    inner = {
        "ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2",
        "attn.out_proj": "self_attn.out_proj",
    }  # fmt: skip
    outer = {
        "visual.class_embedding": "vision_model.embeddings.class_embedding",
        "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
        "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
        "positional_embedding": "text_model.embeddings.position_embedding.weight",
        "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
        "logit_scale": "logit_scale",
    }
    norms = {"visual.ln_pre": "vision_model.pre_layrnorm", "visual.ln_post": "vision_model.post_layernorm"}
    norms["ln_final"] = "text_model.final_layer_norm"
    made = {f"{tower}.embeddings.position_ids": torch.arange(4)[None] for tower in heads}
    for key, tensor in tensors.items():
        stem, _, last = key.rpartition(".")
        if key in outer:
            made[outer[key]] = tensor
        elif key in ("visual.proj", "text_projection"):
            made[key.replace("visual.proj", "visual_projection") + ".weight"] = tensor.T.contiguous()
        elif stem in norms:
            made[f"{norms[stem]}.{last}"] = tensor
        else:
            tower = "vision_model" if key.startswith("visual.") else "text_model"
            number, _, rest = stem.split("resblocks.")[1].partition(".")
            folder = f"{tower}.encoder.layers.{number}"
            if last.startswith("in_proj_"):
                for part, third in zip("qkv", tensor.chunk(3), strict=True):
                    made[f"{folder}.self_attn.{part}_proj.{last.removeprefix('in_proj_')}"] = third.contiguous()
            else:
                made[f"{folder}.{inner[rest]}.{last}"] = tensor
    return {
        key: tensor for key, tensor in made.items() if key.split(".")[0] in (*heads, "logit_scale") or len(heads) > 1
    }


def test_transformers_checkpoints_give_the_same_features_and_the_same_texts(tmp_path):
    path = write_checkpoint(tmp_path, "tiny-vit")
    tensors, wanted = load_file(path), maps_of(path)
    whole, vision = tmp_path / "model.safetensors", tmp_path / "vision.safetensors"
    save_file(as_transformers(tensors), whole)
    save_file(
        {key: held for key, held in as_transformers(tensors, ("vision_model",)).items() if key != "logit_scale"}, vision
    )
    newer = tmp_path / "newer.safetensors"
    save_file({key.removeprefix("vision_model."): held for key, held in load_file(vision).items()}, newer)
    for file in (whole, vision, newer):
        assert all(torch.equal(*pair) for pair in zip(maps_of(file), wanted, strict=True))
    tokens = torch.tensor([[1, 5, 7, 49, 0, 0, 0, 0]])
    ours, theirs = (load_clip(f"clip:tiny-vit/{file}", 32)[0].encode_text(tokens) for file in (path, whole))
    assert torch.equal(ours, theirs)
    with pytest.raises(PetsegError, match=r"vision.safetensors does not hold .*it lacks .* such as"):
        load_clip(f"clip:tiny-vit/{vision}", 32)  # whoever wants texts needs their tower


@pytest.mark.parametrize("fault", ["missing", "extra"])
def test_every_tensor_of_a_transformers_checkpoint_is_accounted_for(tmp_path, fault):
    tensors = as_transformers(load_file(write_checkpoint(tmp_path, "tiny-vit")))
    key = "vision_model.encoder.layers.2.self_attn.k_proj.bias"
    if fault == "missing":
        del tensors[key]
    else:
        tensors["vision_model.head.bias"] = torch.zeros(3)
    save_file(tensors, tmp_path / "theirs.safetensors")
    with pytest.raises(PetsegError, match=r"2\.attn\.(q_proj|in_proj_)|vision_model.head.bias") as refused:
        maps_of(tmp_path / "theirs.safetensors")
    assert len(str(refused.value)) < 400 and "\n" not in str(refused.value)


def test_weights_of_another_project_are_named_in_one_line(tmp_path):
    register(tmp_path, "tiny-vit")
    save_file({f"blocks.{number}.weight": torch.zeros(2) for number in range(99)}, tmp_path / "dino.safetensors")
    with pytest.raises(PetsegError, match=r"in none of the formats that are known.*transformers' CLIPModel") as refused:
        maps_of(tmp_path / "dino.safetensors")
    assert len(str(refused.value)) < 400 and "\n" not in str(refused.value)


def test_weights_of_another_size_of_model_are_refused_in_one_line(tmp_path):
    path = write_checkpoint(tmp_path, "tiny-vit")
    tensors = load_file(path)
    tensors["visual.class_embedding"] = torch.zeros(32)
    save_file(tensors, path)
    with pytest.raises(PetsegError, match=r"class_embedding is \(32,\) in it, and \(64,\) in the model") as refused:
        maps_of(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("size", [32, 64])
def test_half_precision_weights_are_widened_at_every_size(tmp_path, size):
    path = write_checkpoint(tmp_path, "tiny-vit")
    halves = {key: tensor.half() for key, tensor in load_file(path).items()}
    save_file(halves, tmp_path / "half.safetensors")
    save_file({key: tensor.float() for key, tensor in halves.items()}, tmp_path / "widened.safetensors")
    maps, wanted = maps_of(tmp_path / "half.safetensors", size), maps_of(tmp_path / "widened.safetensors", size)
    assert all(torch.equal(*pair) and pair[0].dtype == torch.float32 for pair in zip(maps, wanted, strict=True))


def test_other_weights_under_the_same_tag_have_another_identity(cache, monkeypatch, study, splits):
    tiny = write_checkpoint(cache, "tiny-vit")
    monkeypatch.setattr(clip, "clip_weights", lambda name, tag: tiny)
    monkeypatch.setattr(clip, "_check_activation", lambda *_: None)
    first = load_encoder("clip:tiny-vit/mine", 32).identity
    assert first == f"clip:tiny-vit/mine@{hashlib.sha256(tiny.read_bytes()).hexdigest()[:12]}"
    assert encoder_identity("clip:tiny-vit/mine") == first
    tensors = load_file(tiny)
    save_file(tensors | {"logit_scale": tensors["logit_scale"] + 1}, tiny)
    second = load_encoder("clip:tiny-vit/mine", 32).identity
    assert encoder_identity("clip:tiny-vit/mine") == second != first
    other = replace(study, encoder="clip:tiny-vit/mine")
    now = conditions(recipe_of("decoder"), other, 0, splits)
    assert now["encoder"] == second  # so what was trained on the first is trained anew, and not gone on with
    assert first_difference(now | {"encoder": first}, now) == f"encoder was {first}, and is {second} now"


def test_every_model_of_open_clip_is_taken_or_refused_in_one_line():
    taken = []
    for name in open_clip.list_models():
        with contextlib.suppress(PetsegError):
            clip._configuration(name)
            taken.append(name)
    assert {"ViT-B-16-quickgelu", "ViT-L-14-quickgelu", "ViT-H-14", "ViT-L-14-336"} <= set(taken)
    for name in ("coca_ViT-B-32", "roberta-ViT-B-32", "xlm-roberta-base-ViT-B-32", "ViT-H-14-CLIPA", "RN50"):
        with pytest.raises(PetsegError, match=rf"^{name} has .*: it cannot be used here\. Take a model such as"):
            load_encoder(f"clip:{name}/random")


def test_sizes_that_fit_the_patches_are_named_with_the_key_to_change():
    with pytest.raises(
        PetsegError, match=r"multiples of 14, not 96: set the study's image_size .*\[labels\]\) to 84 or 98"
    ):
        load_clip("clip:ViT-L-14-quickgelu/random", 96)


class Hub(BaseHTTPRequestHandler):
    """The hub, as far as its client asks for files; the first answer to a download is cut in the middle."""

    content = b""
    cuts = 1
    ranges: ClassVar[list[str]] = []

    def do_HEAD(self):
        if not self.path.endswith("open_clip_model.safetensors"):
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.end_headers()
            return
        self.send_response(200)
        self.common()
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()

    def common(self):
        self.send_header("ETag", f'"{hashlib.sha256(self.content).hexdigest()}"')
        self.send_header("X-Repo-Commit", "c" * 40)
        self.send_header("Accept-Ranges", "bytes")

    def do_GET(self):
        asked = self.headers.get("Range", "")
        if not self.path.endswith("open_clip_model.safetensors"):  # the client asks for other things besides
            self.send_error(404)
            return
        type(self).ranges.append(asked)
        start = int(asked.removeprefix("bytes=").split("-")[0] or 0) if asked else 0
        rest = self.content[start:]
        self.send_response(206 if asked else 200)
        self.common()
        self.send_header("Content-Length", str(len(rest)))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        self.end_headers()
        if type(self).cuts:
            type(self).cuts -= 1
            rest = rest[: len(rest) // 2]
        self.wfile.write(rest)
        self.wfile.flush()
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(tmp_path):
    """A hub on this machine, and the environment of a process that asks it."""
    save_file({"weights": torch.arange(8_000_000, dtype=torch.float32)}, tmp_path / "there.safetensors")
    Hub.content, Hub.cuts, Hub.ranges = (tmp_path / "there.safetensors").read_bytes(), 1, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield os.environ | {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "HOME": str(tmp_path / "home"),
        "NO_PROXY": "127.0.0.1",
    }
    server.shutdown()
    server.server_close()


def download(environment, *arguments):
    command = [sys.executable, "-m", "petseg_utils", "data", "download", "--clip", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_a_download_whose_connection_breaks_goes_on_and_what_is_there_is_not_fetched_again(hub, tmp_path):
    spec = "clip:ViT-L-14-quickgelu/openai"
    first = download(hub, spec)
    assert first.returncode == 0 and first.stdout == f"Fetched: {spec}, open_clip_model.safetensors\n", first.stderr
    assert Hub.ranges == ["", "bytes=10485760-"]  # the client keeps 10 MiB at a time
    (there,) = (tmp_path / "hub").glob("models--timm--*/snapshots/*/open_clip_model.safetensors")
    assert there.read_bytes() == Hub.content
    away = hub | {"HF_ENDPOINT": "http://127.0.0.1:9"}  # nobody there
    again = download(away, spec)
    assert again.returncode == 0 and again.stdout == f"On disk already: {spec}, open_clip_model.safetensors\n"


def test_a_download_without_a_hub_ends_soon_and_with_a_sentence(hub):
    done = download(hub | {"HF_ENDPOINT": "http://127.0.0.1:9"})
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert f"The weights of {CLIP} could not be fetched from the Hugging Face hub" in done.stderr


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ("clip:ViT-B-16/openai", "Take clip:ViT-B-16-quickgelu/openai"),
        ("clip:ViT-B-16//a/file.pt", "Only weights with a tag can be fetched"),
        ("ViT-B-16/openai", "Only weights with a tag can be fetched"),
        ("clip:ViT-B-16/nonsense", "open_clip has no weights 'nonsense'"),
        ("clip:coca_ViT-B-32/mscoco_finetuned_laion2b_s13b_b90k", "another image tower|another text tower"),
    ],
)
def test_only_what_can_be_used_is_fetched(spec, error, no_network):
    with pytest.raises(PetsegError, match=error):
        download_clip(spec)


@pytest.mark.parametrize(
    ("identity", "title"),
    [
        ("clip:ViT-B-16-quickgelu/openai@0123456789ab", "CLIP ViT-B/16"),
        ("clip:ViT-L-14-quickgelu/openai", "CLIP ViT-L/14"),
        ("clip:ViT-L-14-336-quickgelu/openai@0123456789ab", "CLIP ViT-L/14-336"),
        ("clip:ViT-B-16/laion2b_s34b_b88k@0123456789ab", "CLIP ViT-B/16 (laion2b_s34b_b88k)"),
        ("clip:ViT-B-16-quickgelu//model.safetensors@0123456789ab", "CLIP ViT-B/16 (model.safetensors)"),
        ("clip:ViT-B-16/random", "ViT-B/16 with random weights"),
        ("lite:efficientnet_lite0+2x", "EfficientNet-Lite0 (ImageNet) at two scales"),
        ("lite:efficientnet_lite2", "lite:efficientnet_lite2"),
    ],
)
def test_titles_name_the_model_and_only_clip_is_called_clip(identity, title):
    assert encoder_title(identity) == title
