"""The demo page: drop a photo, correct the pet's mask by clicks, save the result.  Served on this machine only."""

import contextlib
import html
import importlib.util
import os
import shutil
from collections.abc import Callable
from functools import cache, partial, wraps
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr
import numpy as np

from petseg_utils.apps.child_processes import children, reduce_photo, write_result
from petseg_utils.apps.cutouts import EXAMPLES, encoded
from petseg_utils.apps.page_folder import disk_errors, drop, keep_photo, new_path, own_folder, write_for_browser
from petseg_utils.apps.page_state import COLOURS, MODEL_TURN, SWITCH, SWITCH_HELP, TOOLS, Work, after_switch
from petseg_utils.segmenter import OpenPhoto, Reduced, Segmenter, shipped_weights
from petseg_utils.study import PetsegError

T = TypeVar("T")
TOOLS_HELP = "“This is the pet” adds to what is selected, “This is not” takes away, and a box is a limit."
MODEL_CHOICES = {
    "point": "point: finds the pet, and your clicks correct it",
    "decoder": "decoder: finds the pet by itself",
    "unet": "unet: by itself too, trained from scratch",
}
CSS = """
#picture .icon-button-wrapper { display: none; }
#picture img { width: 100%; max-height: 72vh; }
#shelf .grid-wrap { min-height: 0; }
#said p { font-size: 1.1em; min-height: 3.2em; }
"""
# A screen reader should read the text below the picture aloud.  Gradio drops a click that comes while the next picture
# is loading in the browser, because its size is not known then; such a click is held back until it is.  Gradio does not
# mark its own messages, about uploads, as alerts.
START = """() => {
    document.querySelector("#said .prose").setAttribute("aria-live", "polite");
    document.addEventListener("click", event => {
        const image = event.target.closest("#picture")?.querySelector("img");
        if (!image || image.naturalWidth) return;
        event.stopPropagation();
        image.addEventListener("load", () => event.target.dispatchEvent(new MouseEvent("click", event)), {once: true});
    }, true);
    new MutationObserver(() => {
        for (const message of document.querySelectorAll(".toast-body.error:not([role=alert])")) message.role = "alert";
    }).observe(document.body, {childList: true, subtree: true});
}"""
SAVE = """(file) => {
    if (!file) return;
    const link = Object.assign(document.createElement("a"), {href: file.url, download: file.orig_name});
    document.body.append(link);
    link.click();
    link.remove();
}"""
# System fonts: gradio's own themes would make the browser fetch theirs from the network.  The theme's labels, notes and
# checkboxes are too pale.
THEME = gr.themes.Soft(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]).set(
    block_title_text_color="*primary_700",
    block_label_text_color="*primary_700",
    block_info_text_color="*neutral_600",
    block_info_text_color_dark="*neutral_300",
    checkbox_border_color="*neutral_500",
    background_fill_primary="*neutral_50",  # unchanged: `set` would reset it
)
# Gradio's queue is for work that shows progress; clicks need none and bypass it.
SLOW = {"api_visibility": "private"}
FAST = {"api_visibility": "private", "show_progress": "hidden", "trigger_mode": "multiple", "queue": False}
LOOKS = {"theme": THEME, "css": CSS}  # for `serving`
GONE = "This page closed what was open here, to make room for others or as its window was away: reload it to go on."


def make_page() -> gr.Blocks:
    """Build the page around the weights that ship; serve it with `serving.serving` and `LOOKS`.

    Raises
    ------
    PetsegError
        If no weights ship.
    """
    models = [name for name in MODEL_CHOICES if can_load(name)]
    if not models:
        raise PetsegError("This copy of petseg has no weights that the page can load: reinstall petseg.")
    os.environ["GRADIO_TEMP_DIR"] = str(own_folder())  # before the first component is made, as that reads it
    folder = own_folder() / "examples"
    with disk_errors():
        folder.mkdir(exist_ok=True)
        examples = [Path(shutil.copy(path, folder)) for path in EXAMPLES.values()]

    with gr.Blocks(title="petseg", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        work = gr.State()
        gr.Markdown("# petseg\nCut a cat or a dog out of a photo. The photo stays on this machine.")
        with gr.Row():
            with gr.Column(scale=3):
                picture, said = show_picture("Opening an example …")
            with gr.Column(scale=2):
                with gr.Group(visible="point" in models) as clicking:
                    clicks = offer_clicks()
                    switch = gr.Checkbox(label=SWITCH, info=SWITCH_HELP)
                with gr.Row():
                    saving = {what: gr.Button(f"Save {what}", min_width=100) for what in ("mask", "cut-out", "COCO")}
                # A file, not gradio's picture component: that one decodes by itself and ignores transparency and EXIF.
                upload = gr.File(label="Open a photo", height=120)
                model = gr.Radio([(MODEL_CHOICES[name], name) for name in models], value=models[0], label="Model")
                description = gr.Markdown()
                look = offer_looks()
                gr.Markdown("Examples: Chelsea, photographed by Stéfan van der Walt (CC0), and two drawn pets.")
                named = [(str(path), path.stem) for path in examples]
                options = {"allow_preview": False, "buttons": [], "interactive": False, "object_fit": "cover"}
                shelf = gr.Gallery(named, label="Examples", show_label=False, columns=3, elem_id="shelf", **options)
        file = gr.File(visible="hidden")

        def open_example(event: gr.SelectData, *rest: Any) -> tuple:
            number = event.index if isinstance(event.index, int) and 0 <= event.index < len(examples) else 0
            return open_file(str(examples[number]), *rest)

        slow, shown = SLOW | {"show_progress_on": picture}, [picture, said]
        chosen, whole = [work, model, *look], [work, *shown, model, description, switch, clicking]
        page.load(None, js=START)
        page.load(partial(open_file, str(examples[0])), chosen, whole, **slow)
        upload.upload(open_file, [upload, *chosen], whole, **slow).then(lambda: None, None, upload, **FAST)
        shelf.select(open_example, chosen, whole, **slow)
        model.input(switch_model, chosen, whole, **slow)
        answer_clicks(work, picture, said, clicks, look)
        switch.input(turn_switch, [work, switch, *look], shown, **FAST)
        for what, button in saving.items():
            done = button.click(partial(save, what), work, [file, said], **slow)
            done.then(None, file, js=SAVE)
    return page


def show_picture(before: str) -> tuple[gr.Image, gr.HTML]:
    """Make the picture and the text below it, which is `before` until there is a photo."""
    alt = "The photo, with what is selected laid over it. Click on it to correct that."
    options = {"show_label": False, "buttons": [], "interactive": False, "container": False}
    return gr.Image(label="photo", elem_id="picture", alt_text=alt, **options), gr.HTML(saying(before), elem_id="said")


def saying(sentence: str, trouble: str = "") -> str:
    """Return the text as HTML: a sentence, or what went wrong as an alert.  A file's name in it is escaped."""
    return f'<p role="alert">{html.escape(trouble)}</p>' if trouble else f"<p>{html.escape(sentence)}</p>"


def offer_clicks() -> tuple[gr.Radio, gr.Button, gr.Button]:
    """Make the choice of what a click says, and the buttons to take back the last click, and all of them."""
    choices = [(text, key) for key, text in TOOLS.items()]
    tool = gr.Radio(choices, value="yes", label="A click says", info=TOOLS_HELP)
    with gr.Row():
        return tool, gr.Button("Undo"), gr.Button("Clear")


def offer_looks() -> list[gr.Dropdown | gr.Slider]:
    """Make the controls for colour and opacity of the mask."""
    with gr.Row():
        colour = gr.Dropdown(list(COLOURS), value="by class", label="Colour", min_width=120)
        return [colour, gr.Slider(0, 1, 0.5, step=0.05, label="Opacity", min_width=120)]


def answer_clicks(work: gr.State, picture: gr.Image, said: gr.Markdown, clicks: tuple, look: list) -> None:
    """Make the page react to clicks, and to the controls that `offer_clicks` and `offer_looks` made."""
    (tool, undo, clear), shown = clicks, [picture, said]
    picture.select(click, [work, tool, *look], shown, **FAST)
    tool.input(take_tool, [work, tool, *look], shown, **FAST)
    undo.click(partial(change, Work.undo), [work, *look], shown, **FAST)
    clear.click(partial(change, Work.clear), [work, *look], shown, **FAST)
    for control in look:
        control.input(show, [work, *look], shown, **FAST | {"trigger_mode": "always_last"})


def can_load(name: str) -> bool:
    """Return whether weights ship for a model, and the package that runs them is installed."""
    try:
        path = shipped_weights(name)
    except PetsegError:
        return False
    return path.suffix == ".onnx" or importlib.util.find_spec("torch") is not None


@cache
def load_model(name: str) -> Segmenter:
    """Load a model when it is first needed, and keep it."""
    return Segmenter.load(name)


def in_turn(answer: Callable[..., T]) -> Callable[..., T]:
    """Make a function answer a visitor's clicks one after the other, so that each builds on those before it."""

    @wraps(answer)
    def wait_and_answer(*arguments: Any, **options: Any) -> T:
        works = [argument for argument in arguments if isinstance(argument, Work)]
        with works[0].lock if works else contextlib.nullcontext():
            return answer(*arguments, **options)

    return wait_and_answer


@in_turn
def open_file(path: str, work: Work | None, model: str, *look: Any) -> tuple:
    """Open a file in a model; if it cannot be used, say why and keep what was open.

    Parameters
    ----------
    model : str
        A name of `MODEL_CHOICES`.
    look : str, float
        Colour and opacity of the mask.

    Returns
    -------
    tuple
        The work, the picture's file, the text below it, the model's name and description, whether the switch is on,
        and whether to show the tools for clicks.
    """
    kept = None
    try:
        kept, name = keep_photo(Path(path)), Path(path).name
        photo, picture = opened(kept, name, load_model(model), work.photo.target if work else "pet")
    except PetsegError as error:
        if kept:
            drop(kept)
        return full_answer(work, look, str(error))
    if work is None:
        work = Work(photo, name, picture, kept)
    else:
        work.take(photo, name, picture, kept)
    return full_answer(work, look)


def opened(path: Path, name: str, segmenter: Segmenter, target: str) -> tuple[OpenPhoto, bytes]:
    """Open a stranger's photo in a model, without keeping the photo itself; return it with what is shown of it.

    Raises
    ------
    PetsegError
        If its file cannot be used.
    """
    size, scale = segmenter.card["image_size"], segmenter.model.scale
    facts, (square, picture) = children.call(name, reduce_photo, path, name, size, scale)
    seen = np.frombuffer(square, np.uint8).reshape(scale * size, scale * size, 3)
    with MODEL_TURN:
        return OpenPhoto(segmenter, Reduced(seen, facts["height"], facts["width"]), target), picture


@in_turn
def switch_model(work: Work | None, model: str, *look: Any) -> tuple:
    """Open the same photo in another model, keeping the clicks if it takes any; return what `open_file` does."""
    if work is None or work.kept is None:
        return full_answer(None, look)
    try:
        photo, picture = opened(work.kept, work.file, load_model(model), work.photo.target)
        for prompt in work.photo.prompts if photo.segmenter.takes_prompts else ():
            photo.add(prompt)
        work.take(photo, work.file, picture, work.kept)
        return full_answer(work, look)
    except PetsegError as error:
        return full_answer(work, look, str(error))


def full_answer(work: Work | None, look: tuple, trouble: str = "") -> tuple:
    """Return what `open_file` returns, for the work as it is now; `trouble` says what went wrong."""
    if work is None:
        return None, *show(work, *look, trouble), gr.skip(), gr.skip(), gr.skip(), gr.skip()
    segmenter = work.photo.segmenter
    clicking = gr.update(visible=segmenter.takes_prompts)
    switched = work.photo.target == "clicked"
    return work, *show(work, *look, trouble), segmenter.card["model"], work.model_description, switched, clicking


@in_turn
def click(work: Work | None, tool: str, colour: str, opacity: float, event: gr.SelectData) -> tuple:
    """Handle a click on the picture; return what `show` does."""
    try:
        if work:
            work.click(tool, *event.index)
        return show(work, colour, opacity)
    except PetsegError as error:
        return show(work, colour, opacity, str(error))


@in_turn
def change(action: Callable[[Work], None], work: Work | None, *look: Any) -> tuple:
    """Do something with the work, if there is any; return what `show` does."""
    try:
        if work:
            action(work)
        return show(work, *look)
    except PetsegError as error:
        return show(work, *look, str(error))


def take_tool(work: Work | None, tool: str, *look: Any) -> tuple:
    """Say what comes next; choosing another tool drops a box that was begun, else the picture stays the same."""
    if work is None:
        return show(work, *look)
    if tool != "box" and work.corner:
        return change(Work.drop_corner, work, *look)
    begins = tool == "box" and not work.corner
    return gr.skip(), saying("Click on one corner of a box around the pet." if begins else work.status)


@in_turn
def turn_switch(work: Work | None, on: bool, *look: Any) -> tuple:
    """Select whatever is clicked, or pets again, dropping earlier clicks; return what `show` does."""
    if work is None:
        return show(work, *look)
    cleared = bool(work.photo.prompts)
    work.clear()
    work.photo.target = "clicked" if on else "pet"
    return show(work, *look, said=after_switch(work.photo, cleared))


@in_turn
def show(work: Work | None, colour: str, opacity: float, trouble: str = "", said: str = "") -> tuple[Any, str]:
    """Return the picture's file and the text below it: what went wrong, or else what is selected or comes next."""
    if work is None:
        return gr.skip(), saying("", trouble or GONE)
    try:
        picture = encoded(work.draw(colour, opacity), "JPEG", quality=90)
        return work.show(write_for_browser(picture, "photo.jpg")), saying(said or work.status, trouble)
    except PetsegError as error:
        return gr.skip(), saying("", str(error))


@in_turn
def save(what: str, work: Work | None) -> tuple[Any, Any]:
    """Return a file of the ``mask``, the ``cut-out`` or ``COCO``, see `cutouts.result_file`, and the text to show."""
    if work is None or work.kept is None:
        return None, saying("", GONE)
    photo, folder = work.photo, None
    try:
        folder = new_path("")
        result = work.kept, photo.selection, photo.label, work.file, what, folder
        facts, _ = children.call(work.file, write_result, *result)
    except PetsegError as error:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)
        return None, saying("", str(error))
    return work.show(str(folder / Path(facts["file"]).name)), gr.skip()
