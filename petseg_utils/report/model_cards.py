"""Model cards of the weights that ship, and a data sheet, as Markdown."""

import pandas as pd
from nbconvert.filters import markdown2html

from petseg_utils.data.pictures import PictureSet
from petseg_utils.scores.results import markdown
from petseg_utils.study import Study


def model_card(card: dict) -> str:
    """Return a model card as Markdown: what the weights are, their data and scores, what they are for and not for.

    The headings follow Mitchell et al., "Model Cards for Model Reporting", FAT* 2019, arXiv:1810.03993.
    """
    encoder = card["encoder"]
    lines = [
        f"Trained as `{card['trained_as']}` in study `{card['study']}`, seed {card['seed']}, epoch "
        f"{card['epoch']}, {card['training_seconds'] / 60:.1f} minutes, at {card['image_size']} px.",
        f"**Encoder:** {encoder}, frozen, **not CLIP**."
        if (encoder or "").startswith("lite:")
        else f"**Encoder:** {encoder or 'none; all weights were trained'}.",
        f"**Learned from:** {_learned_from(card)}.",
        f"**For:** masks of one cat or dog in a photo. **Limits:** {card['limits']}",
        f"**Validation:** mIoU {card['validation']['miou']:.3f}, border ignored.",
        f"**Made at:** commit {card['commit']}, torch {card['versions']['torch']}, data {card['data']}. "
        f"**Licence:** {card['licence']}. **Source:** {card['source']}.",
    ]
    rows = [
        {
            "test photos": f"{scores['n_images']}, {name}",
            "mIoU": f"{scores['miou']:.3f}",
            "mean Dice": f"{scores['dice']:.3f}",
            "accuracy": f"{scores['accuracy']:.3f}",
        }
        for name, scores in card["test"].items()
    ]
    lines.append(markdown(pd.DataFrame(rows)))
    if clicks := card.get("clicks"):
        values = ", ".join(f"{name} {clicks[name]:.3f}" for name in ("iou@1", "iou@3", "noc@85", "noc@90"))
        lines.append(f"**With clicks:** {values}.")
    return "\n\n".join(lines)


def _learned_from(card: dict) -> str:
    """Say how many pictures a model was shown, with and without true masks."""
    parts = [f"{card['n_images']} photos with masks, of {card['n_breeds']} breeds"]
    before = card.get("pretraining") or {}
    if more := card.get("more"):
        parts.append(f"{more['n_images']:,} with proposed masks")
    if more := before.get("more"):
        parts.append(f"{more['n_images']:,} with proposed masks, through the decoder it starts from")
    if extra := card.get("extra"):
        parts.append(f"{extra['n_images']} further ones with masks")
    return ", ".join(parts)


def data_sheet(study: Study, splits: dict[str, PictureSet]) -> str:
    """Return a data sheet as Markdown: what the data is, its origin, its labels, and what it should not be used for.

    The headings follow Gebru et al., "Datasheets for Datasets", CACM 2021, arXiv:1803.09010.
    """
    whole = pd.concat([part.table.assign(split=split) for split, part in splits.items()])
    counts = ", ".join(f"{len(part):,} {split}" for split, part in splits.items())
    cats = int((whole["species"] == 1).sum())
    if study.draws_its_data:
        source = "drawn by `petseg_utils/data/drawing/`: cats and dogs in made-up scenes; licence of the code"
        labels = "exact, as the pictures are drawn from them; the border band is added as in the official data"
        uses = "to see that all runs and how the methods work; **no score on these pictures is an estimate for photos**"
    else:
        source = "Oxford-IIIT Pet, by Parkhi, Vedaldi, Zisserman and Jawahar, CVPR 2012; or the folder that "
        source += "`PETSEG_DATA` names. Photos belong to their owners; CC BY-SA 4.0"
        labels = "trimaps by people: pet, background, and a band between that is undecided"
        uses = "to compare segmenters of one cat or dog; not to recognise an animal or its owner, or other species"
    return "\n\n".join(
        [
            f"**Pictures:** {len(whole):,} ({counts}), {whole['breed'].nunique()} breeds, {cats:,} cats and "
            f"{len(whole) - cats:,} dogs, {whole['width'].min()} to {whole['width'].max()} pixels wide.",
            f"**Source:** {source}.",
            f"**Labels:** {labels}. Species and breed come from the list files.",
            f"**Processing:** letterboxed to {study.image_size} px; padding counts nowhere. Validation is "
            "a breed-stratified hash of the file names. Duplicates across splits are left out of training.",
            f"**Left out:** {sum(len(part.skipped) for part in splits.values())} pictures.",
            f"**Use it** {uses}.",
            f"**Fingerprint of the test pictures:** {splits['test'].fingerprint}.",
        ]
    )


def folded(title: str, text: str) -> str:
    """Wrap Markdown in HTML that opens on a click."""
    return f'<details class="more card-text"><summary>{title}</summary>\n{markdown2html(text)}\n</details>'
