"""Rehearse the study on CLIP without its photos and weights: `python -m tools.rehearse`, or `make rehearsal`.

All notebooks run on a few drawn pictures, with a ViT-B/16 of random weights put where the hub's client keeps its
downloads.  The pictures are named by ``PETSEG_DATA``, so they count as photos, and the pages say what they would say of
photos.  Then the pages are searched for sentences that hold only for the stand-in or for drawn pictures, and the memory
of the largest process is recorded for `petseg report --plan`.
"""

import os
import re
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from bs4 import BeautifulSoup
from safetensors.torch import save_file

from petseg_utils.data.drawing.sample import draw_sample
from petseg_utils.models.clip import CLIP, load_clip, weights_source
from petseg_utils.report.plan import REHEARSED
from petseg_utils.study import ROOT, load_study, write_json
from petseg_utils.study.provenance import git_commit, versions

# What a page must not say if CLIP is the encoder, or if the study has photos of its own.
WRONG = (
    r"This is the stand-in",
    r"the first maps see texture",
    r"each picture has a colour of its own",
    r"mostly the same part of another animal",
    r"near its best after a few",
    r"The study of photos pays",
    r"encoder auto\b|on auto\b|lite:efficientnet_lite0 of this run",
    r"Not measured at all: CLIP",
    r"under a million weights",
    r"features were not measured",
    r"trained on a million pictures",
    r"The same model on photos|The same on photos",
    r"drawn pictures and photos|photos and drawn pictures|believe the photos",
    r"drawn by the project itself",
    r"The photos measured are",
    r"(?-i:On) photos(:|, the click model| the U-Net| it was not)",  # but "In study …, on photos, the click model"
    r"photos are never shown",
    r"Two cores pay for",
    r"makes all but these longer runs",
    r"Times were taken beside other work",
)


def write_weights(hub: Path) -> None:
    """Put random weights for the study's CLIP where the hub's client keeps its downloads."""
    name, tag = CLIP.removeprefix("clip:").split("/")
    repository, files, _ = weights_source(name, tag)
    folder = hub / f"models--{str(repository).replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("rehearsal")
    (folder / "snapshots" / "rehearsal").mkdir(parents=True)
    model, _ = load_clip(f"clip:{name}/random")
    halves = {key: tensor.half().contiguous() for key, tensor in model.state_dict().items()}
    save_file(halves, folder / "snapshots" / "rehearsal" / files[0])


def wrong_sentences(page: Path) -> list[str]:
    """Return statements of a rendered page that do not hold, each with the words around it."""
    soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    for code in soup.select("div.highlight"):
        code.decompose()
    text = " ".join(soup.get_text(" ").split())
    return [
        text[max(0, match.start() - 60) : match.end() + 60] for what in WRONG for match in re.finditer(what, text, re.I)
    ]


def main() -> None:
    """Run the rehearsal; exit with code 1 if a notebook fails or a page says something that does not hold."""
    with tempfile.TemporaryDirectory() as folder:
        hub, photos, study = Path(folder) / "hub", Path(folder) / "photos", load_study("rehearsal")
        write_weights(hub)
        draw_sample(photos, study.sample_trainval, study.sample_test)
        environment = os.environ | {"HF_HUB_CACHE": str(hub), "HF_HUB_OFFLINE": "1", "PETSEG_DATA": str(photos)}
        command = [sys.executable, "-m", "petseg_utils", "report", "--study", "rehearsal"]
        failed = subprocess.run(command, env=environment, check=False).returncode
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
    print(f"The largest process took {peak:.1f} GB.")
    if not failed:
        write_json(REHEARSED, {"peak_gb": round(peak, 2), "versions": versions(), "commit": git_commit()})
    pages = sorted((ROOT / "reports" / "rehearsal").glob("*.html"))
    wrong = [f"{page.name}: …{sentence}…" for page in pages for sentence in wrong_sentences(page)]
    print("\n".join(wrong) or f"{len(pages)} pages, none of which says what holds for the stand-in alone.")
    sys.exit(1 if failed or wrong else 0)


if __name__ == "__main__":
    main()
