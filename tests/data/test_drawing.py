import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torchvision.datasets import OxfordIIITPet

from petseg_utils.data.drawing import sample
from petseg_utils.data.drawing.breeds import BREEDS
from petseg_utils.data.drawing.pictures import draw_pet
from petseg_utils.data.drawing.sample import draw_sample, shares, trimap_of, write_pet
from petseg_utils.study import PetsegError

N_TRAINVAL, N_TEST = 192, 96
# sha256 of pictures number 1 of every eighth breed, pixels and masks, drawn with these versions.
FINGERPRINT = "3962ab4c188664f2d4a6645ad053f5c88b50aebdc6aa372f40009db4aea06072"
VERSIONS = {"numpy": "2.4.6", "scipy": "1.17.1", "scikit-image": "0.26.0", "pillow": "12.3.0"}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return draw_sample(
        tmp_path_factory.mktemp("data") / "oxford-iiit-pet", N_TRAINVAL, N_TEST, workers=2, progress=False
    )


def read_list(root, name):
    lines = (root / "annotations" / f"{name}.txt").read_text().splitlines()
    return [(n, int(a), int(b), int(c)) for n, a, b, c in (line.split() for line in lines if not line.startswith("#"))]


def read_pair(root, name):
    picture = np.asarray(Image.open(root / "images" / f"{name}.jpg"))
    return picture, np.asarray(Image.open(root / "annotations" / "trimaps" / f"{name}.png"))


def digest(pictures):
    total = hashlib.sha256()
    for picture, mask in pictures:
        total.update(picture.tobytes() + mask.tobytes())
    return total.hexdigest()


def test_layout_is_the_official_one(root):
    trainval, test, both = (read_list(root, name) for name in ("trainval", "test", "list"))
    assert (len(trainval), len(test)) == (N_TRAINVAL, N_TEST)
    assert sorted(both) == sorted(trainval + test)
    assert len({row[0] for row in both}) == len(both)
    for name, class_id, species, breed_id in both:
        breed = BREEDS[class_id - 1]
        assert (name.rsplit("_", 1)[0], species) == (breed.name, breed.species)
        assert name[0].isupper() == (species == 1)
        assert breed_id == sum(b.species == species for b in BREEDS[:class_id])
    assert {p.stem for p in (root / "images").iterdir()} == {row[0] for row in both}
    assert {p.stem for p in (root / "annotations" / "trimaps").iterdir()} == {row[0] for row in both}
    header = (root / "annotations" / "list.txt").read_text().splitlines()[:7]
    assert [line.startswith("#") for line in header] == [True] * 6 + [False]


def test_torchvision_reads_it(root):
    for split, n in (("trainval", N_TRAINVAL), ("test", N_TEST)):
        pets = OxfordIIITPet(root.parent, split=split, target_types=["category", "segmentation"])
        assert len(pets) == n
        picture, (category, trimap) = pets[n // 2]
        assert picture.size == trimap.size
        assert 0 <= category < len(BREEDS)


def test_every_breed_is_in_both_lists_in_unequal_numbers(root):
    assert Counter(b.species for b in BREEDS)[1] >= 12
    assert Counter(b.species for b in BREEDS)[2] >= 12
    for name in ("trainval", "test"):
        counts = Counter(row[1] for row in read_list(root, name))
        assert sorted(counts) == list(range(1, len(BREEDS) + 1))
    assert len(set(Counter(row[1] for row in read_list(root, "trainval")).values())) > 2


def test_trimaps_look_like_the_real_ones(root):
    shares, widths, longest, ratios = [], [], [], []
    for name, *_ in read_list(root, "list"):
        picture, trimap = read_pair(root, name)
        assert picture.shape == (*trimap.shape, 3)
        assert set(np.unique(trimap)) <= {1, 2, 3}
        band = trimap == 3
        shares.append((trimap == 1).mean())
        longest.append(max(trimap.shape))
        ratios.append(trimap.shape[1] / trimap.shape[0])
        widths.append(2 * np.percentile(ndimage.distance_transform_edt(band)[band], 95) / longest[-1])
    assert 0.25 < np.mean(shares) < 0.36
    assert np.percentile(shares, 90) - np.percentile(shares, 10) > 0.2
    assert 0.03 < np.median(widths) < 0.05  # of the longer side; the real ones have 0.04
    assert min(longest) >= 180
    assert max(longest) <= 260
    assert min(ratios) < 0.8 < 1.25 < max(ratios)


def test_band_lies_on_both_sides_of_the_outline():
    mask = np.zeros((40, 60), dtype=bool)
    mask[10:30, 20:] = True
    trimap = trimap_of(mask, 3)
    assert (trimap[20, 14:26] == [2, 2, 2, 3, 3, 3, 3, 3, 3, 1, 1, 1]).all()
    assert trimap[20, -1] == 1  # the frame is no outline
    assert (trimap_of(np.zeros((5, 5), dtype=bool), 3) == 2).all()
    assert (trimap_of(np.ones((5, 5), dtype=bool), 3) == 1).all()


def colour_histogram(pixels):
    cells = (pixels // 64).astype(np.int64) @ np.array([16, 4, 1])
    joint = np.bincount(cells, minlength=64)
    each = [np.bincount(pixels[:, k] // 32, minlength=8) for k in range(3)]
    return np.concatenate([joint, *each]) / max(1, len(pixels))


def simple_features(picture, trimap):
    pet = trimap == 1
    height, width = pet.shape
    rows, columns = np.nonzero(pet) if pet.any() else np.zeros((2, 1))
    y, x = rows / height, columns / width
    place = [pet.mean(), width / height]
    place += [y.mean(), y.std(), y.min(), y.max(), x.mean(), x.std(), x.min(), x.max()]
    return np.concatenate([colour_histogram(picture.reshape(-1, 3)), colour_histogram(picture[pet]), place])


def test_colour_and_position_do_not_tell_cats_from_dogs(root):
    rows = read_list(root, "list")
    features = np.stack([simple_features(*read_pair(root, row[0])) for row in rows])
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    # Every picture is judged by a model of the others: 96 test pictures alone would say little about a share.
    folds = StratifiedKFold(6, shuffle=True, random_state=0)
    assert cross_val_score(model, features, [row[2] for row in rows], cv=folds).mean() < 0.65


def test_number_of_workers_does_not_matter(root, tmp_path):
    # The sample was drawn by two workers; this process draws some of it again, in another order.
    (tmp_path / "images").mkdir()
    (tmp_path / "annotations" / "trimaps").mkdir(parents=True)
    for k in (30, 17, 3, 8):
        write_pet(tmp_path, k, 1)
    again = [p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file()]
    assert len(again) == 8
    for path in again:
        assert (tmp_path / path).read_bytes() == (root / path).read_bytes(), path


def test_processor_does_not_matter():
    features = np.show_config(mode="dicts")["SIMD Extensions"]["found"]
    if not features:
        pytest.skip("numpy uses no special instructions here")
    code = (
        "import hashlib; from petseg_utils.data.drawing.breeds import BREEDS; "
        "from petseg_utils.data.drawing.pictures import draw_pet; "
        "pictures = [draw_pet(breed, 2) for breed in BREEDS[::6]]; "
        "print(hashlib.sha256(b''.join(p.tobytes() + m.tobytes() for p, m in pictures)).hexdigest())"
    )
    env = os.environ | {"NPY_DISABLE_CPU_FEATURES": " ".join(features)}
    plain = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert plain.returncode == 0, plain.stderr
    assert plain.stdout.strip() == digest(draw_pet(breed, 2) for breed in BREEDS[::6])


def test_pictures_are_the_committed_ones():
    installed = {package: version(package) for package in VERSIONS}
    if installed != VERSIONS:
        pytest.skip(f"the fingerprint is for {VERSIONS}, not {installed}")
    assert digest(draw_pet(breed, 1) for breed in BREEDS[::8]) == FINGERPRINT


def test_a_finished_sample_is_left_alone(root):
    before = (root / "sample.json").stat().st_mtime_ns
    assert draw_sample(root, N_TRAINVAL, N_TEST, progress=False) == root
    assert (root / "sample.json").stat().st_mtime_ns == before
    with pytest.raises(PetsegError, match="holds drawn pictures of another version or number"):
        draw_sample(root, N_TRAINVAL, N_TEST + 1, progress=False)


@pytest.mark.parametrize(
    "content", [{"photo.jpg": "mine"}, {"sample.json": "no json"}, {"sample.json": json.dumps([1])}]
)
def test_refuses_a_foreign_folder(tmp_path, content):
    for name, text in content.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(PetsegError, match="holds something else and is left alone"):
        draw_sample(tmp_path, progress=False)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == content


def test_few_pictures_are_spread_over_both_species():
    for total in (2, 12, 31):
        cats, dogs = np.reshape(shares(total), (2, -1)).sum(1)
        assert cats + dogs == total and abs(cats - dogs) <= 1


def test_a_list_without_pictures_is_refused(tmp_path):
    with pytest.raises(PetsegError, match="Each list needs two pictures at least, got 100 and 0"):
        draw_sample(tmp_path / "x", 100, 0, progress=False)


def test_leaves_nothing_half_done(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("out of paint")

    monkeypatch.setattr(sample, "write_pet", fail)
    with pytest.raises(RuntimeError, match="out of paint"):
        draw_sample(tmp_path / "x", workers=1, progress=False)
    assert list(tmp_path.iterdir()) == []


KILLED = """
import multiprocessing, os, pathlib, signal, sys, time
from petseg_utils.data.drawing import sample

def write_pet(folder, *_):
    (folder / f"worker-{os.getpid()}").touch()
    time.sleep(60)

sample.write_pet = write_pet
if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[2])
    sample.draw_sample(pathlib.Path(sys.argv[1]) / "x", 100, 100, workers=2, progress=False)
"""


def workers_in(folder):
    return [int(path.name.partition("-")[2]) for path in folder.glob(".petseg-unfinished-*/worker-*")]


def is_alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    status = subprocess.run(["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True).stdout
    return not status.startswith("Z")  # a container's first process may not fetch what it is left with


def until(condition, seconds=60):
    ends = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < ends:
        time.sleep(0.05)
    return met


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows ends processes in another way")
@pytest.mark.parametrize("start", ["fork", "spawn", "forkserver"])
def test_killed_drawing_leaves_no_process_and_the_next_one_deletes_its_folder(tmp_path, start):
    script, place = tmp_path / "draw.py", tmp_path / "data"
    script.write_text(KILLED)
    drawing = subprocess.Popen([sys.executable, script, place, start])
    assert until(lambda: len(workers_in(place)) == 2)
    workers = workers_in(place)
    drawing.kill()
    drawing.wait()
    assert until(lambda: not any(map(is_alive, workers)))
    draw_sample(place / "x", 2, 2, workers=1, progress=False)
    assert [path.name for path in place.iterdir()] == ["x"]


def die(*_):
    os._exit(1)


def test_a_process_that_draws_and_dies_is_told_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(sample, "write_pet", die)
    with pytest.raises(PetsegError, match=r"memory ran out, or .* if __name__ == \"__main__\"\.$"):
        draw_sample(tmp_path / "x", workers=2, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_of_two_that_want_the_same_pictures_one_draws_and_the_other_waits_for_it(tmp_path, monkeypatch):
    drawn, draw = [], sample._draw

    def counted(*arguments):
        drawn.append(1)
        draw(*arguments)

    monkeypatch.setattr(sample, "_draw", counted)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: draw_sample(tmp_path / "x", 2, 2, workers=1, progress=False), range(2)))
    assert drawn == [1] and [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_disk_that_cannot_be_written_is_told_with_what_to_do(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(PetsegError, match=r"^Could not write the drawn pictures to x \(.*\): .* by PETSEG_DATA\.$"):
        draw_sample(tmp_path / "file" / "x", 2, 2, progress=False)
