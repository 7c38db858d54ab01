"""How a notebook starts, and how it shows sentences and code."""

import ast
import inspect
import logging
import sys
import textwrap
from collections.abc import Callable

import matplotlib.pyplot as plt
from IPython.display import Markdown, display

from petseg_utils.experiments.plotting import STYLE
from petseg_utils.study import Study, load_study
from petseg_utils.study.provenance import describe
from petseg_utils.training.process import set_up_process


def begin() -> Study:
    """Set up process and figure style, print versions, study, device and seeds, and return the study."""
    logging.basicConfig(stream=sys.stdout, format="%(message)s", force=True)
    logging.getLogger("petseg_utils").setLevel(logging.INFO)
    plt.rcParams.update(STYLE)
    set_up_process()
    study = load_study()
    print(describe(study))
    return study


def say(text: str) -> None:
    """Show a sentence as Markdown, for text that contains computed numbers."""
    display(Markdown(text))


def show_source(thing: Callable, *, first: str = "", last: str = "") -> Markdown:
    """Show the code of a function, method or class as in its module, highlighted, under the module's name and lines.

    Docstrings are left out.

    Parameters
    ----------
    thing : callable
        A function, a class, or a method such as ``UNetDecoder.forward``.
    first, last : str
        Show from the first line that contains `first` to the next one that contains `last`; by default from the start
        and to the end.

    Raises
    ------
    ValueError
        If no line contains `first` or `last`.
    """
    lines, start = inspect.getsourcelines(thing)
    hidden = _docstring_lines(textwrap.dedent("".join(lines)))
    begin = _line_with(first, lines, 0)
    end = _line_with(last, lines, begin) if last else len(lines) - 1
    code = textwrap.dedent("".join(lines[line] for line in range(begin, end + 1) if line not in hidden)).rstrip()
    place = thing.__module__.replace(".", "/") + ".py"
    return Markdown(f"`{place}`, lines {start + begin} to {start + end}\n\n```python\n{code}\n```")


def _line_with(text: str, lines: list[str], begin: int) -> int:
    """Return the number of the first line, from `begin` on, that contains a text."""
    for number in range(begin, len(lines)):
        if text in lines[number]:
            return number
    raise ValueError(f"No line of the code to be shown holds {text!r}.")


def _docstring_lines(source: str) -> set[int]:
    """Return the numbers, from 0, of the lines taken up by docstrings, and by the blank line after a class's."""
    hidden: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node, clean=False) is not None:
            string = node.body[0]
            blank = isinstance(node, ast.ClassDef)
            hidden |= set(range(string.lineno - 1, (string.end_lineno or string.lineno) + blank))
    return hidden
