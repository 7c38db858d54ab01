"""Where a result comes from: versions, commit, code, device."""

import ast
import hashlib
import importlib.metadata
import io
import platform
import subprocess
import tokenize
from pathlib import Path

from petseg_utils.study import ROOT, Study

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
    """Versions of Python and of the packages that results depend on."""
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in RECORDED_PACKAGES
    }


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


def code_fingerprint(*modules: str) -> str:
    """Hash of what the named modules do, so that a checkpoint knows which code made it; prose does not enter."""
    digest = hashlib.sha256()
    for module in modules:
        digest.update(without_prose((Path(__file__).parent / f"{module}.py").read_text(encoding="utf-8")).encode())
    return digest.hexdigest()[:16]


def without_prose(source: str) -> str:
    """Python code without comments, docstrings and empty lines.

    The rest stays as it is written: what `ast.unparse` makes of the same code differs between versions of Python.
    """
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False):
            prose = node.body[0]
            lines[prose.lineno - 1 : prose.end_lineno] = [""] * (prose.end_lineno - prose.lineno + 1)
    return "\n".join(line.rstrip() for line in lines if line.strip())


def describe(study: Study) -> str:
    """One line for the top of notebooks and logs: versions, study, device and seeds."""
    import torch

    found = versions()
    device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    return (
        f"petseg study {study.name!r} | device {device} | seeds {list(study.seeds)} | "
        f"python {found['python']} | torch {found['torch']} | torchvision {found['torchvision']}"
    )
