"""Sentences that contain numbers: each is made from records, so that it changes when they do."""

import math

import numpy as np
import pandas as pd

from petseg_utils.data.datasets import OFFICIAL_COUNTS
from petseg_utils.experiments.elsewhere import clicked_records, whole_records
from petseg_utils.experiments.robustness.corruptions import TITLES as TITLES_OF_PERTURBATIONS
from petseg_utils.experiments.robustness.tables import relative_loss
from petseg_utils.models.names import TITLES, encoder_title, looks_at, titled
from petseg_utils.scores.intervals import unpaired_difference, with_interval
from petseg_utils.scores.predictions import SMALL_BREED
from petseg_utils.scores.results import PRIMARY, PROMPTED, flat_clicks, results_table, select


def ranked(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the primary protocol that may be ranked: not stale, no clicks, the best first."""
    rows = table[(table["protocol"] == PRIMARY) & (table["model"] != PROMPTED) & (table["stale"] == "")]
    return rows.sort_values("mIoU", ascending=False)


def answer(table: pd.DataFrame, records: list[dict], pairs: pd.DataFrame, pictures: str) -> list[str]:
    """State the result in three sentences.

    Parameters
    ----------
    table : DataFrame
        `results.results_table` of one study and set of pictures.
    pairs : DataFrame
        From `comparisons.paired_table` or its file; empty if no pairs were compared.
    pictures : str
        What the pictures are: ``drawn pictures`` or ``photos``.

    Returns
    -------
    list of str
        Who leads and by what score; whether the lead is shown; what clicks gain.
    """
    rows = ranked(table)
    if rows.empty:
        return []
    best, others = rows.iloc[0], rows.iloc[1:]
    seeds = f", mean of {best['seeds']} seeds" if best["seeds"] > 1 else ""
    leader = f"Without clicks, the {titled(best['model'], best['encoder'])} is best on {best['n_images']} {pictures} "
    leader += f"of {best['n_breeds']} breeds: mIoU {_score(best)}{seeds}"
    if len(others):
        # an encoder that was just named is not named again
        encoders = others["encoder"].where(others["encoder"] != best["encoder"])
        names = [titled(model, encoder) for model, encoder in zip(others["model"], encoders, strict=True)]
        behind = [f"the {name} ({_score(row)})" for name, (_, row) in zip(names, others.iterrows(), strict=True)]
        leader += f", ahead of {_listed(behind)}"
    return [leader + ".", lead_sentence(rows, pairs), clicks_sentence(records)]


def _score(row: pd.Series) -> str:
    return with_interval(row["mIoU"], row["mIoU low"], row["mIoU high"])


def summary_sentences(
    photos: list[dict], thorough: list[dict], shipped: list[dict], pairs: pd.DataFrame, breeds: pd.Series
) -> list[str]:
    """Say what was compared, the result, what a click adds, what the scores mean, and what they were measured on.

    Parameters
    ----------
    photos, thorough, shipped : list of dict
        Records of the study on photos, of two of its models trained longer, and from `elsewhere.score_shipped`.
    pairs : DataFrame
        From `comparisons.paired_table` of the first study.
    breeds : Series
        The breed of each test photo.
    """
    tested = [record for record in select(photos, protocol=PRIMARY) if "stale" not in record]
    best = ranked(results_table(tested)).iloc[0]
    unet, long_unet = (_unet_and_decoder(records)[0] for records in (photos, thorough))
    small = "a small decoder on a pre-trained network"
    name = small if best["model"].startswith("decoder") else f"the {titled(best['model'], best['encoder'])}"
    pair = pairs[(pairs["a"] == best["model"]) & (pairs["b"] == "unet")]
    won = "wins clearly" if pair["real"].any() else "comes first"
    short, long = _unet_settings(photos), _unet_settings(thorough)
    more = [word for word, key in (("wider", "width"), ("trained longer", "epochs")) if long[key] > short[key]]
    gains = [
        each["clicks"]["missed@1"]["after"] - each["clicks"]["missed@1"]["before"] for each in clicked_records(shipped)
    ]
    adds, form = ("adds", ".2f") if min(gains) > 0 else ("changes it by", "+.2f")
    share, labelled = breeds.value_counts(), tested[0]["trained_on"]["n_images"]
    return [
        f"We compared four ways to cut a cat or dog out of a photo. With only {labelled} labelled photos, {name} "
        f"{won}: mIoU {best['mIoU']:.2f}; a U-Net from scratch reaches {unet['mIoU']:.2f}, or {long_unet['mIoU']:.2f} "
        f"{' and '.join(more) or 'in another study'}. With the weights that come with petseg, one click where a part "
        f"of the pet is missing {adds} {min(gains):{form}} to {max(gains):{form}} IoU.",
        "IoU is the area that a mask and the pet share, divided by the area that either covers: 1 is a perfect mask. "
        "mIoU is its mean over background, cat and dog.",
        f"Tested on {len(breeds)} of the {OFFICIAL_COUNTS['test']:,} test photos of the Oxford-IIIT Pet data, "
        f"{share.iloc[:3].sum()} of them of three breeds.",
    ]


def findings(
    photos: list[dict], thorough: list[dict], pairs: pd.DataFrame, breeds: pd.Series, perturbed: pd.DataFrame
) -> dict[str, str]:
    """Return each notebook's finding on photos as a sentence, by the notebook's name; without those that have not run.

    Parameters
    ----------
    photos, thorough : list of dict
        Records of a study on photos, and of its U-Net trained longer; the latter may be empty.
    pairs : DataFrame
        From `comparisons.paired_table` of the first study; empty if no pairs were compared.
    breeds : Series
        The breed of each of its photos.
    perturbed : DataFrame
        From `robustness.tables.curves` of the study; empty if nothing was perturbed.
    """
    tested = [record for record in select(photos, protocol=PRIMARY) if "stale" not in record]
    rows = ranked(results_table(tested)) if tested else pd.DataFrame()
    first = {row["model"]: row for _, row in rows.iterrows()}
    scores = {model: f"mIoU {_score(row)}" for model, row in first.items()}
    said = {}
    if len(breeds):
        share = breeds.value_counts(normalize=True)
        said["01_data_exploration"] = (
            "Each photo shows one species, so one class is always absent; "
            f"{share.iloc[:3].sum():.0%} of the {len(breeds):,} photos with masks show three of {len(share)} breeds."
        )
    if "unet" in scores:
        said["02_unet"] = f"From scratch, a U-Net reaches {scores['unet']} on photos"
        if thorough:
            settings, (long_unet, _) = _unet_settings(thorough), _unet_and_decoder(thorough)
            said["02_unet"] += (
                f", and {_score(long_unet)} with {settings['width']} channels and {settings['epochs']} epochs"
            )
        said["02_unet"] += "."
    if "autoencoder_unet" in scores:
        said["03_autoencoder_pretraining"] = (
            f"On a frozen autoencoder, a U-Net reaches {scores['autoencoder_unet']} on photos."
        )
        for _, pair in pairs.iterrows():
            if {pair["a"], pair["b"]} == {"unet", "autoencoder_unet"}:
                gap = with_interval(pair["difference"], pair["low"], pair["high"], "+.3f")
                said["03_autoencoder_pretraining"] += (
                    f" The {titled(pair['a'])} is ahead of the {titled(pair['b'])} by {gap}, "
                    f"{_verdict(pair).partition(':')[0]}."
                )
    if "decoder" in scores:
        frozen = encoder_title(first["decoder"]["encoder"])
        said["04_clip_decoder"] = f"A small decoder on {frozen} reaches {scores['decoder']} on photos."
    if clicked := [record for record in tested if "clicks" in record]:
        missed = mean_clicks(clicked)[1]
        if not math.isnan(missed["missed@1.before"][0]):
            before, after = (with_interval(*missed[f"missed@1.{when}"]) for when in ("before", "after"))
            said["05_point_prompt"] = (
                "On photos, one click on the deepest part that is missing takes the mean IoU of the pet "
                f"from {before} to {after}."
            )
    if len(perturbed):
        said["06_robustness"] = loss_sentence(perturbed)
    if len(pairs) and len(rows):
        said["07_results"] = lead_sentence(rows, pairs).partition(" Of the ")[0]
    return said


def lead_sentence(rows: pd.DataFrame, pairs: pd.DataFrame) -> str:
    """Say whether the first of the `ranked` rows is really ahead of the second."""
    if len(rows) < 2:
        return "There is nothing to compare it with."
    first, second = (titled(row["model"], row["encoder"]) for _, row in rows.iloc[:2].iterrows())
    for _, pair in pairs.iterrows():
        if {titled(pair["a"], pair["encoder a"]), titled(pair["b"], pair["encoder b"])} == {first, second}:
            gap = with_interval(pair["difference"], pair["low"], pair["high"], "+.3f")
            others = int(pair["compared"]) - len(pairs)
            left = f"; {others} more, with a click model that was trained anew since, are not listed" if others else ""
            return (
                f"Picture by picture, the lead of the {titled(pair['a'])} over the {titled(pair['b'])} is {gap}, "
                f"{_verdict(pair)}. Of the {len(pairs)} pairs listed, {int(pairs['real'].sum())} are shown to differ "
                f"({_seeds(pairs)}{left})."
            )
    return f"The lead over the {second} was not tested picture by picture on this data."


def _verdict(pair: pd.Series) -> str:
    """Say whether a difference is shown: a word, a colon, and the reason."""
    if pair["real"]:
        return "shown: the interval, widened for the number of pairs, leaves out zero"
    if pair["low"] > 0:
        if not pair["every seed"]:
            return "not sure: the other one leads with one seed at least"
        return (
            f"not sure: it leads with every seed, but the interval at the level for {pair['compared']} pairs holds zero"
        )
    if pair["low"] == pair["high"] == 0:
        return "none: on these pictures the two give the same masks, or equally good ones"
    return "not shown: these pictures do not tell the two apart"


def _seeds(pairs: pd.DataFrame) -> str:
    """Say how many training runs of each model the pairs compare."""
    seeds = int(pairs["seeds"].min())
    return f"{seeds} seeds of each model" if seeds > 1 else "one seed of each model"


def clicks_sentence(records: list[dict]) -> str:
    """Say what clicks add for the first study and encoder that were scored with clicks; means over its seeds."""
    scored = [record for record in select(records, protocol=PRIMARY) if record.get("clicks") and "stale" not in record]
    if not scored:
        return "The click model was not scored with clicks on this data."
    first, runs, clicks = scored[0], *mean_clicks(scored)
    mean = f" (mean of {runs} seeds)" if runs > 1 else ""
    return (
        f"The {titled(first['model'], first['encoder'])}{mean} finds the pet with an IoU of "
        f"{clicks['proposed'][0]:.3f} before any click, {with_interval(*clicks['iou@1'])} after one click at "
        f"random on it and {with_interval(*clicks['iou@3'])} after two corrections."
    )


def mean_clicks(scored: list[dict]) -> tuple[int, dict[str, tuple[float, float, float]]]:
    """Count the runs of the first record's model, encoder and study, and return their mean click scores with bounds.

    The records must be of one split, subset and protocol, and hold clicks.
    """
    keys = ("model", "encoder", "study")
    runs = [flat_clicks(record) for record in scored if all(record[key] == scored[0][key] for key in keys)]
    means = {name: np.mean([run[name] for run in runs], axis=0).tolist() for name in runs[0]}
    return len(runs), {name: (value, low, high) for name, (value, low, high) in means.items()}


def home_sentences(records: list[dict]) -> list[str]:
    """Say how well the pet is found in photos at home and elsewhere, and what clicks add; two sentences.

    Parameters
    ----------
    records : list of dict
        From `elsewhere.score_shipped`: the first source holds the data set's own photos.
    """
    scored = clicked_records(records)
    clicks, sources = [record["clicks"] for record in scored], [record["source"] for record in scored]
    alone = [with_interval(each["proposed"], *each["ci95"]["proposed"]) for each in clicks]
    elsewhere = _listed([f"{score} ({source})" for score, source in zip(alone[1:], sources[1:], strict=True)])
    bounds = [(each["proposed"], *each["ci95"]["proposed"]) for each in clicks]
    less = all(unpaired_difference(away, bounds[0])[2] < 0 for away in bounds[1:])
    more = all(each["iou@3"] > each["proposed"] for each in clicks)
    after = _listed([f"{each['iou@3']:.3f}" for each in clicks])
    whole = [f"{record['clicks']['proposed']:.3f}" for record in whole_records(records)]
    share = _listed([f"{record['border_share']:.0%}" for record in scored])
    rule = (
        " Oxford's masks mark an undecided border along the outline, which is not scored; in the others a border as "
        f"wide was drawn ({share} of pet and border). With every pixel scored, the latter are {_listed(whole)}."
    )
    return [
        f"In pet portraits ({sources[0]}), the weights that come with petseg find the pet with a mean IoU of "
        f"{alone[0]}, without a click. In photos that nobody posed for, it is {'less: ' if less else ''}{elsewhere}."
        f"{rule if whole else ''}",
        f"Clicks {'raise' if more else 'do not always raise'} it: after one at random and two corrections, in the "
        f"deepest wrong part, it is {after}.",
    ]


def unseen_sentence(records: list[dict], unseen: pd.DataFrame) -> str:
    """Compare, on cats outdoors, weights that learned from such photos with a decoder that did not; a sentence.

    Parameters
    ----------
    records : list of dict
        From `elsewhere.score_shipped`.
    unseen : DataFrame
        From `elsewhere.compare_sets`.
    """
    rows = unseen[(unseen["model"] == "decoder") & (unseen["score"] == "pet IoU")].set_index("pictures")
    home, away = (with_interval(*rows.loc[where, ["value", "low", "high"]]) for where in ("its cats", "elsewhere"))
    of_cats = [record for record in records if record["source"] == "cats outdoors" and record["model"] == "decoder"]
    scores = next(record["scores"] for record in of_cats if "pet" in record["scores"]["iou"])
    trained = with_interval(scores["iou"]["pet"], *scores["ci95"]["iou.pet"])
    return (
        f"Pet IoU over all pixels of the {rows.loc['elsewhere', 'n_images']} photos of cats outdoors: {trained} with "
        f"these weights, which learned from other photos of that source, and {away} with the decoder "
        f"of study {rows.loc['elsewhere', 'study']}, which never saw such photos (on Oxford's cats, border left out: "
        f"{home})."
    )


def size_sentence(records: list[dict]) -> str:
    """Say how the size of the pet matters to the decoder that ships; from the same records."""
    last = [record for record in records if (record["model"], record["protocol"]) == ("decoder", PRIMARY)][-1]
    sizes = list(last["by_size"].items())
    (small, few), (large, many) = sizes[0], sizes[-1]
    return (
        f"Small pets are {'harder' if few['iou'] < many['iou'] else 'no harder'}: of {last['source']}, the IoU of "
        f"those that take {small} of the photo is {few['iou']:.3f}, of those that take {large} of it {many['iou']:.3f}."
    )


def loss_sentence(curves: pd.DataFrame) -> str:
    """Say which perturbations cost the decoder most, and which least."""
    loss = relative_loss(curves).loc["decoder"].sort_values(ascending=False)
    titles = [TITLES_OF_PERTURBATIONS[kind][0] for kind in loss.index]
    names = [title if title.isupper() else title.lower() for title in titles]
    most = _listed([f"{name} ({share:.0%})" for name, share in zip(names[:3], loss.iloc[:3], strict=True)])
    least, little = _listed(names[-3:]), math.ceil(100 * loss.iloc[-3])
    return (
        f"Of {len(loss)} perturbations at their worst level, {most} cost the decoder most of its mIoU; {least} cost it "
        f"{little}% at most."
    )


def _listed(parts: list[str]) -> str:
    """Join several things with commas and an "and"; return one thing as it is."""
    return ", ".join(parts[:-1]) + " and " * (len(parts) > 1) + parts[-1]


def pair_sentences(pairs: pd.DataFrame) -> str:
    """Return a sentence for each pair that says whether its difference is shown; Markdown."""
    lines = []
    for _, pair in pairs.iterrows():
        gap = with_interval(pair["difference"], pair["low"], pair["high"], "+.3f")
        word, _, why = _verdict(pair).partition(":")
        reason = "" if pair["real"] else f":{why}"
        lines.append(f"* {titled(pair['a'])} over {titled(pair['b'])}: {gap}. **{word.capitalize()}**{reason}.")
    meaning = "Shown: the interval, widened for the number of pairs, leaves out zero. " if pairs["real"].any() else ""
    return "\n".join(lines) + (f"\n\n{meaning}Compared: {_seeds(pairs)}." if lines else "")


def training_sentence(records: list[dict]) -> str:
    """Say which photos a study's models learned from and at what sizes they look, in two sentences from its records."""
    tested = [record for record in select(records, protocol=PRIMARY) if "stale" not in record]
    (labelled,) = {record["trained_on"]["n_images"] for record in tested}
    more: dict[int, list[str]] = {}
    for record in tested:
        before = record["trained_on"]["pretraining"] if record["model"] == "autoencoder_unet" else None
        for name, seen in ((record["model"], record["trained_on"]), ("autoencoder", before or {})):
            added = seen.get("more")
            if added and titled(name) not in more.setdefault(added["n_images"], []):
                more[added["n_images"]].append(titled(name))
    added = [f"the {_listed(names)} also saw {n:,} photos without masks" for n, names in more.items()]
    looks = {looks_at(record["encoder"], record["image_size"]): record["encoder"] for record in tested}
    text = f"All learned masks from the same {labelled} photos" + "".join(f"; {part}" for part in added) + "."
    if len(looks) == 2:
        (frozen,), (plain,) = ([look for look, on in looks.items() if bool(on) == taken] for taken in (True, False))
        text += f" The models on a frozen encoder look at each photo at {frozen} pixels, the others at {plain}."
    return text


def budget_sentence(brief: list[dict], thorough: list[dict]) -> str:
    """Say how far the U-Net's distance to the decoder is a matter of training; from two studies' records."""
    (unet, decoder), (long_unet, long_decoder) = _unet_and_decoder(brief), _unet_and_decoder(thorough)
    short, long = _unet_settings(brief), _unet_settings(thorough)
    return (
        f"Trained on a GPU, with {long['epochs']} epochs in place of {short['epochs']} and {long['width']} channels in "
        f"place of {short['width']}, the U-Net reaches mIoU {_score(long_unet)} on the same photos; the decoder, with "
        f"the settings that it has here, {_score(long_decoder)}. The decoder is ahead of that U-Net by "
        f"{long_decoder['mIoU'] - long_unet['mIoU']:.3f}, and of the U-Net trained here by "
        f"{decoder['mIoU'] - unet['mIoU']:.3f}."
    )


def _unet_and_decoder(records: list[dict]) -> list[pd.Series]:
    """Return the rows of the two models in a study's table, by the primary protocol, without stale ones."""
    rows = results_table([record for record in select(records, protocol=PRIMARY) if "stale" not in record])
    return [rows[rows["model"] == name].iloc[0] for name in ("unet", "decoder")]


def _unet_settings(records: list[dict]) -> dict:
    return next(
        record["trained_on"]["settings"] for record in records if record["model"] == "unet" and "stale" not in record
    )


def limits(records: list[dict], breeds: pd.Series) -> str:
    """Say what a study's numbers rest on, and what was not measured; Markdown."""
    tested = select(records, protocol=PRIMARY)
    first, machines = tested[0], sorted({f"{record['machine']}, {record['device']}" for record in tested})
    encoders = sorted({record["encoder"] for record in tested if record["encoder"]})
    learned = first["trained_on"]["n_images"]
    rare = any(record["subset"] == "small breeds" for record in records)
    rare = rare or first["n_images"] < SMALL_BREED * first["n_breeds"]
    stand_in = any(encoder.startswith("lite:") for encoder in encoders)
    runs = {(record["model"], record["seed"]) for record in tested}
    few = ", ".join(titled(name) for name in TITLES if sum(name == scored for scored, _ in runs) == 1)
    share = breeds.value_counts(normalize=True)
    lines = [
        f"Encoder: {', '.join(encoders) or 'none'}."
        + (" It is a stand-in. **No number here is CLIP's**, and none says what CLIP would do." if stand_in else ""),
        f"Pictures: {learned} to train; {first['n_images']}, of {first['n_breeds']} breeds, to test.",
        f"Machine: {'; '.join(machines)}. Times hold for this machine only.",
        f"Breeds: {len(share)} in all; {', '.join(share.index[:3])} are the most frequent and make "
        f"{share.iloc[:3].sum():.0%} of the pictures."
        + (f" Some have fewer than {SMALL_BREED} test pictures." if rare else ""),
    ]
    if few:
        lines.append(f"Trained once only: {few}. How far another run would move them was not measured.")
    return "\n".join(f"* {line}" for line in lines)


def not_measured(records: list[dict]) -> str:
    """Say in a sentence what no record of a study covers."""
    tested = select(records, protocol=PRIMARY)
    on_clip = any(encoder_title(record["encoder"] or "").startswith("CLIP") for record in tested)
    missing = [] if on_clip else ["CLIP's features"]
    if max(record["n_images"] for record in tested) < OFFICIAL_COUNTS["test"]:
        missing.append("the full data set")
    missing += ["tools from elsewhere, interactive or not (GrabCut, SAM, RITM)"]
    if any(record["encoder"] for record in tested):
        known = "CLIP's photos are of the web" if on_clip else "ImageNet has breeds as classes"
        missing.append(f"whether the encoder learned from photos that are tested here ({known})")
    missing += ["two animals that touch", "real people's clicks", "energy", "any machines but those named"]
    return f"Not measured at all: {', '.join(missing[:-1])} and {missing[-1]}."
