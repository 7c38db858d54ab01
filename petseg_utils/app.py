"""The demo page: drop a photo, get its mask.  Served on this machine only; no photo leaves it."""

from pathlib import Path

import gradio as gr
import numpy as np

from petseg_utils.datasets import DataError, read_image
from petseg_utils.metrics import CLASSES
from petseg_utils.plotting import CLASS_COLOURS, overlay
from petseg_utils.segmenter import Segmenter

# System fonts: gradio's own themes would have the browser fetch theirs from the network.
THEME = gr.themes.Soft(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])


def make_page() -> gr.Blocks:
    """Build the page around the weights that ship; start it by ``.launch(theme=THEME)``.

    Raises
    ------
    PetsegError
        If there are no weights.
    """
    segmenter = Segmenter.load("unet")
    card = segmenter.card
    colours = ", ".join(f'<b style="color:{CLASS_COLOURS[name]}">{name}</b>' for name in CLASSES[1:])
    with gr.Blocks(title="petseg") as page:
        gr.Markdown(
            f"# petseg\nDrop a photo of a cat or a dog. Model: {card['model']}, trained from scratch on "
            f"{card['n_images']} photos (validation mIoU {card['validation']['miou']:.2f}), so expect mistakes. "
            f"Colours: {colours}. The photo stays on this machine."
        )
        with gr.Row():
            # A file, not gradio's picture component: that one decodes by itself and ignores transparency and EXIF.
            upload = gr.File(label="photo", type="filepath")
            result = gr.Image(label="mask", interactive=False, format="png", buttons=["download", "fullscreen"])
        said = gr.Markdown()
        upload.change(lambda path: answer(segmenter, path), upload, [result, said], api_visibility="private")
    return page


def answer(segmenter: Segmenter, path: str | None) -> tuple[np.ndarray | None, str]:
    """Segment an uploaded file; a file that is no picture gets a sentence instead of a mask.

    Returns
    -------
    (ndarray or None, str)
        The photo with its mask over it, ``uint8 (H, W, 3)``; what was found, in words.
    """
    if path is None:
        return None, ""
    try:
        image = read_image(Path(path))
    except DataError as error:
        return None, f"That did not work. {error} Try a JPEG or PNG photo."
    mask = segmenter.predict(image)
    shares = {name: (mask == value).mean() for value, name in enumerate(CLASSES) if value}
    return overlay(image, mask), "Share of the photo: " + ", ".join(f"{n} {s:.0%}" for n, s in shares.items()) + "."
