"""The page of `petseg demo --label`: photo after photo, the model's proposal is corrected and saved."""

import os
import threading
from collections.abc import Callable
from functools import partial, wraps
from html import escape
from typing import Any

import gradio as gr

from petseg_utils.apps.labelling import Labelling, Walk
from petseg_utils.apps.page import (
    SLOW,
    START,
    answer_clicks,
    in_turn,
    load_model,
    offer_clicks,
    offer_looks,
    saying,
    show,
    show_picture,
)
from petseg_utils.apps.page_folder import own_folder
from petseg_utils.apps.page_state import Work, small_picture
from petseg_utils.data.labels import SPECIES
from petseg_utils.segmenter import Segmenter
from petseg_utils.study import PetsegError

TURN = threading.RLock()
SPECIES_HELP = "The data set has one species a photo. If a photo shows both, select one of them, or skip it."


def make_label_page(data: Labelling) -> gr.Blocks:
    """Build the page; serve it with `serving.serving` and `page.LOOKS`.

    Raises
    ------
    PetsegError
        If no click model ships.
    """
    segmenter = load_model("point")
    os.environ["GRADIO_TEMP_DIR"] = str(own_folder())  # before the first component is made, as that reads it
    with gr.Blocks(title="petseg: label photos", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        walk, work = gr.State(), gr.State()
        progress = gr.HTML(elem_id="progress")  # not Markdown: a photo may have any name
        with gr.Row():
            with gr.Column(scale=3):
                picture, said = show_picture("Opening a photo …")
            with gr.Column(scale=2):
                with gr.Group():
                    clicks = offer_clicks()
                species = gr.Radio(list(SPECIES.values()), label="Species", info=SPECIES_HELP)
                breed = gr.Textbox(label="Breed", info="If you know it; it becomes a part of the picture's name.")
                save = gr.Button("Save and next", variant="primary")
                with gr.Row():
                    back, skip = gr.Button("Back", min_width=80), gr.Button("Skip", min_width=80)
                    no_pet = gr.Button("No pet here", min_width=80)
                look = offer_looks()
        slow = SLOW | {"show_progress_on": picture}
        said_there, all_there = [species, breed], [walk, work, picture, said, progress, species, breed]
        page.load(None, js=START)
        page.load(partial(begin, data, segmenter), look, all_there, **slow)
        for button, action in (
            (save, Walk.save),
            (skip, lambda walk, *_: walk.forward()),
            (back, lambda walk, *_: walk.back()),
            (no_pet, lambda walk, *_: walk.no_pet()),
        ):
            button.click(partial(go, action), [walk, work, *said_there, *look], all_there, **slow)
        answer_clicks(work, picture, said, clicks, look)
    return page


def one_by_one(answer: Callable[..., tuple]) -> Callable[..., tuple]:
    """Make a function answer one visitor after the other, as all of them share a data set."""

    @wraps(answer)
    def wait_and_answer(*arguments: Any) -> tuple:
        with TURN:
            return answer(*arguments)

    return wait_and_answer


@one_by_one
@in_turn
def begin(data: Labelling, segmenter: Segmenter, *look: Any) -> tuple:
    """Open the first photo to be labelled; return what `go` does."""
    walk = Walk(data, segmenter)
    walk.forward()
    return opened(walk, "", "", look)


@one_by_one
@in_turn
def go(
    action: Callable[[Walk, str, str], None],
    walk: Walk | None,
    work: Work | None,
    species: str,
    breed: str,
    *look: Any,
) -> tuple:
    """Do what a button says.

    Parameters
    ----------
    action : callable
        Called with the walk, the species and the breed.
    walk : Walk or None
        None before the page was loaded.
    look : str, float
        Colour and opacity of the mask.

    Returns
    -------
    tuple
        Walk, work, the picture's file, the text below it, progress, species and breed.  If it cannot be done, the
        picture stays, and the text gives the reason.
    """
    if walk is None:
        return walk, work, *show(work, *look), gr.skip(), gr.skip(), gr.skip()
    try:
        action(walk, species, breed)
    except PetsegError as error:
        return walk, work, *show(work, *look, str(error)), escape(walk.progress), gr.skip(), gr.skip()
    return opened(walk, species, breed, look)


def opened(walk: Walk, species: str, breed: str, look: tuple) -> tuple:
    """Return what `go` returns, for a photo that was just opened; the breed is kept while the species is the same."""
    if walk.photo is None:
        return walk, None, None, saying(walk.end), escape(walk.progress), gr.skip(), gr.skip()
    work, (likely, known) = Work(walk.photo, walk.name, small_picture(walk.photo.image)), walk.suggested()
    breed = known or (breed if likely == species else "")
    return walk, work, *show(work, *look, said=walk.before + work.status), escape(walk.progress), likely, breed
