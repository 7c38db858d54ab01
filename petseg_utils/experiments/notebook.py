"""How a notebook begins, and how it shows sentences and code."""

import inspect
import logging
import sys
import textwrap
from collections.abc import Callable

from petseg_utils.study import Study, load_study
from petseg_utils.study.provenance import describe
from petseg_utils.training.process import set_up_process


def begin() -> Study:
    """Set up the notebook's process, and print versions, study, device and seeds; returns the study."""
    logging.basicConfig(stream=sys.stdout, format="%(message)s", force=True)
    logging.getLogger("petseg_utils").setLevel(logging.INFO)
    set_up_process()
    study = load_study()
    print(describe(study))
    return study


def say(text: str) -> None:
    """Show a sentence as Markdown, for prose that holds computed numbers."""
    from IPython.display import Markdown, display

    display(Markdown(text))


def show_source(function: Callable) -> None:
    """Print the code of a function or class as it stands in its module, without its docstring."""
    source = textwrap.dedent(inspect.getsource(function))
    if function.__doc__:
        before, _, after = source.split('"""', 2)
        source = before.rstrip() + "\n" + after.lstrip("\n")
    print(source.rstrip())
