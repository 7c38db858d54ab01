"""Where a result comes from: versions, commit, device."""

import contextlib
import importlib.metadata
import platform
import subprocess
from typing import TYPE_CHECKING

from petseg_utils.study import ROOT

if TYPE_CHECKING:
    from petseg_utils.study import Study

RECORDED_PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "open-clip-torch",
    "numpy",
    "albumentations",
    "accelerate",
    "pillow",
    "opencv-python-headless",
)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on, as far as they are installed."""
    installed = {"python": platform.python_version()}
    for name in RECORDED_PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            installed[name] = importlib.metadata.version(name)
    return installed


def git_commit() -> str:
    """Short commit of the project, with ``+`` where files differ from it; ``unknown`` outside a git checkout."""
    try:
        run = subprocess.run(
            ["git", "describe", "--always", "--abbrev=10", "--dirty=+", "--exclude=*"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return run.stdout.strip()


def best_device() -> str:
    """Where networks run best on this machine: ``cuda``, ``mps`` or ``cpu``."""
    import torch

    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def describe(study: "Study") -> str:
    """One line for the top of notebooks and logs: versions, study, device and seeds."""
    installed = versions()
    return (
        f"petseg study {study.name!r} | device {best_device()} | seeds {list(study.seeds)} | "
        f"python {installed['python']} | torch {installed['torch']} | torchvision {installed['torchvision']}"
    )
