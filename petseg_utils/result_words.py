"""Sentences that hold numbers: each is made from records, so that it changes when they do."""

import pandas as pd

from petseg_utils.checkpoints import MODELS
from petseg_utils.corruptions import TITLES
from petseg_utils.encoders import LITE, TWICE
from petseg_utils.results import PRIMARY, PROMPTED, flat_clicks, results_table, select


def interval(value: float, low: float, high: float, form: str = ".3f") -> str:
    """A value and its interval, as ``0.812 [0.790, 0.833]``."""
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def named(model: str, encoder: str | None) -> str:
    """A model with its encoder, which every mention of a score has to name."""
    return f"{model} on {encoder}" if isinstance(encoder, str) else model


def ranked(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the primary protocol that may be ranked: not stale, nobody helped, the best first."""
    rows = table[(table["protocol"] == PRIMARY) & (table["model"] != PROMPTED) & (table["stale"] == "")]
    return rows.sort_values("mIoU", ascending=False)


def answer(table: pd.DataFrame, records: list[dict], pairs: pd.DataFrame, pictures: str) -> list[str]:
    """What came out, in three sentences.

    Parameters
    ----------
    table : DataFrame
        `results.results_table` of one study and set of pictures.
    records : list of dict
        The same records.
    pairs : DataFrame
        From `comparisons.paired_table`; empty where no pairs were compared.
    pictures : str
        What the pictures are: ``drawn pictures`` or ``photos``.

    Returns
    -------
    list of str
        Who leads and by what score; whether the lead is real; what clicks buy.
    """
    rows = ranked(table)
    if rows.empty:
        return []
    best, others = rows.iloc[0], rows.iloc[1:]
    seeds = f", mean of {best['seeds']} seeds" if best["seeds"] > 1 else ""
    said = f"Of the models that nobody helps, {named(best['model'], best['encoder'])} does best on {best['n_images']} "
    said += f"{pictures} of {best['n_breeds']} breeds: mIoU {_score(best)}{seeds}"
    if len(others):
        behind = [f"{named(row['model'], row['encoder'])} {_score(row)}" for _, row in others.iterrows()]
        said += ", before " + ", ".join(behind)
    return [said + ".", lead_sentence(rows, pairs), clicks_sentence(records)]


def _score(row: pd.Series) -> str:
    return interval(row["mIoU"], row["mIoU low"], row["mIoU high"])


def lead_sentence(rows: pd.DataFrame, pairs: pd.DataFrame) -> str:
    """Whether the first of the `ranked` rows really leads the second."""
    if len(rows) < 2:
        return "There is nothing to compare it with."
    names = [named(row["model"], row["encoder"]) for _, row in rows.iloc[:2].iterrows()]
    for _, pair in pairs.iterrows():
        if {named(pair["a"], pair["encoder a"]), named(pair["b"], pair["encoder b"])} == set(names):
            gap = interval(pair["difference"], pair["low"], pair["high"], "+.3f")
            return (
                f"Picture by picture, the lead of {pair['a']} over {pair['b']} is {gap}, {_verdict(pair, len(pairs))}. "
                f"Of all {len(pairs)} pairs compared, {int(pairs['real'].sum())} are real ({_seeds(pairs)})."
            )
    return f"Whether the lead over {names[1]} is real was not tested picture by picture on this data."


def _verdict(pair: pd.Series, n_pairs: int) -> str:
    """Whether a difference is real: a word, a colon, and why."""
    if pair["real"]:
        return "real: on other pictures of this kind it would be there again"
    if pair["low"] > 0:
        return f"not sure: alone it would count, but not among {n_pairs} pairs, or not with every seed"
    if pair["low"] == pair["high"] == 0:
        return "none: on these pictures the two give the same masks, or equally good ones"
    return "not shown: these pictures do not tell the two apart"


def _seeds(pairs: pd.DataFrame) -> str:
    """How many training runs of each model the pairs compare, in words."""
    seeds = int(pairs["seeds"].min())
    return f"{seeds} seeds of each model" if seeds > 1 else "one seed of each model"


def clicks_sentence(records: list[dict]) -> str:
    """What clicks buy, of the first study and encoder that were scored with clicks; means over its seeds."""
    scored = [record for record in select(records, protocol=PRIMARY) if record.get("clicks") and "stale" not in record]
    if not scored:
        return "The prompted model was not scored with clicks on this data."
    first, keys = scored[0], ("model", "encoder", "study")
    seeds = [flat_clicks(one) for one in scored if all(one[key] == first[key] for key in keys)]
    clicks = {
        name: [sum(values) / len(seeds) for values in zip(*(one[name] for one in seeds), strict=True)]
        for name in ("proposed", "iou@1", "iou@3")
    }
    mean = f", mean of {len(seeds)} seeds" if len(seeds) > 1 else ""
    return (
        f"The prompted model ({named(first['model'], first['encoder'])}{mean}) finds the pet with an IoU of "
        f"{clicks['proposed'][0]:.3f} before anybody clicks, {interval(*clicks['iou@1'])} after one click at random on "
        f"it and {interval(*clicks['iou@3'])} after two corrections."
    )


def pair_sentences(pairs: pd.DataFrame) -> str:
    """A sentence for each pair that says whether its difference is real; Markdown."""
    lines = []
    for _, pair in pairs.iterrows():
        gap = interval(pair["difference"], pair["low"], pair["high"], "+.3f")
        helped = " †" if pair["prompted"] else ""
        word, _, why = _verdict(pair, len(pairs)).partition(":")
        lines.append(f"* {pair['a']} over {pair['b']}{helped}: {gap}. **{word.capitalize()}**:{why}.")
    return "\n".join(lines) + (f"\n\nCompared: {_seeds(pairs)}." if lines else "")


def robustness_sentence(table: pd.DataFrame) -> str:
    """What the worst level of each perturbation costs, from notebook 06's ``robustness.csv``; Markdown.

    Parameters
    ----------
    table : DataFrame
        From `robustness_tables.curves`: the first level of a perturbation is the least, and mostly changes nothing.
    """
    of = {name: group.groupby(["model", "corruption"], sort=False)["value"] for name, group in table.groupby("score")}
    clean, worst = of["mIoU"].first(), of["mIoU"].min()
    dice = table[table["score"] == "dice"].groupby(["model", "corruption"], sort=False)[["value", "low"]].min()
    lines = []
    for model in table["model"].unique():
        hardest = TITLES[worst[model].idxmin()][0]
        lines.append(
            f"* {model}: mIoU {clean[model].iloc[0]:.3f} on clean pictures, {worst[model].mean():.3f} on average at "
            f"the worst level of {len(worst[model])} perturbations, {worst[model].min():.3f} at worst "
            f"({hardest}). Mean Dice stays above 0.9 under {(dice.loc[model, 'value'] > 0.9).sum()} of "
            f"them, and its 95 % interval under {(dice.loc[model, 'low'] > 0.9).sum()}."
        )
    encoders = ", ".join(table["encoder"].dropna().unique())
    return "\n".join(lines) + f"\n\nFrozen features: {encoders}; {table['n_images'].max()} pictures."


def encoder_sentence(table: pd.DataFrame) -> str:
    """What a second look at twice the size, a larger encoder and varied pictures are worth; Markdown.

    Parameters
    ----------
    table : DataFrame
        From ``benchmarks/bench_encoders.py``: ``encoder``, ``cache``, ``miou``, ``encoding_ms``; a row for each run.
    """
    cached = table["cache"] == "mirrored pictures"
    score, cost = (table[cached].groupby("encoder")[column].mean() for column in ("miou", "encoding_ms"))
    small, large = LITE, LITE.replace("lite0", "lite2")
    gain, times = score - score[small], cost / cost[small]
    varied = table.loc[~cached, "miou"].mean() - score[small + TWICE]
    return (
        f"The look at twice the size is worth **{gain[small + TWICE]:+.3f}**, for {times[small + TWICE]:.1f} times the "
        f"encoder's cost. The larger encoder is worth {gain[large]:+.3f} by itself, for {times[large]:.1f} times, and "
        f"**{gain[large + TWICE]:+.3f}** with that look, for {times[large + TWICE]:.1f} times. Pictures that vary are "
        f"worth {varied:+.3f}, against cached ones."
    )


def rare_breeds_sentences(table: pd.DataFrame) -> str:
    """How the decoder does on breeds with few pictures, and whether its variants do otherwise; Markdown.

    Parameters
    ----------
    table : DataFrame
        From ``benchmarks/bench_small_breeds.py``; the first row is what the others are compared with.
    """
    own = table.iloc[0]
    lines = [
        f"A decoder {own['decoder']} reaches mIoU **{interval(own['miou'], own['low'], own['high'])}** on "
        f"{own['pictures']} pictures, each held out in one of {own['folds']} folds. {own['wrong_species']:.1%} of the "
        "pets' pixels get the other species' name."
    ]
    for _, row in table.iloc[1:].iterrows():
        change = interval(row["change"], row["change low"], row["change high"], "+.3f")
        verdict = "worse" if row["change high"] < 0 else "better" if row["change low"] > 0 else "no difference shown"
        lines.append(f"{row['decoder'][:1].upper()}{row['decoder'][1:]}: {change}, {verdict}.")
    return "\n".join(f"* {line}" for line in lines)


def length_sentence(table: pd.DataFrame) -> str:
    """What longer training and more channels are worth to the U-Net; Markdown.

    Parameters
    ----------
    table : DataFrame
        From ``benchmarks/bench_unet.py``: ``width``, ``epochs``, ``miou``; a row for each run.
    """
    by = table.groupby(["width", "epochs"])["miou"].agg(["mean", "min", "max"])
    narrow, wide = by.index.get_level_values("width").min(), by.index.get_level_values("width").max()
    short, long = by.index.get_level_values("epochs").min(), by.index.get_level_values("epochs").max()
    brief, longer, wider = (by.loc[key] for key in ((narrow, short), (narrow, long), (wide, long)))
    sure = ", in every run" if longer["min"] > brief["max"] else ", though not in every run"
    also = ", in every run" if wider["min"] > longer["max"] else ", though not in every run"
    return (
        f"{long} epochs in place of {short} are worth **{longer['mean'] - brief['mean']:+.3f}** mIoU to the U-Net of "
        f"{narrow} channels{sure}. {wide} channels in place of {narrow} are then worth "
        f"{wider['mean'] - longer['mean']:+.3f}{also}."
    )


def budget_sentence(brief: list[dict], thorough: list[dict]) -> str:
    """How far the U-Net's distance to the decoder is a matter of training; from two studies' records."""
    (unet, clip), (long_unet, long_clip) = _unet_and_clip(brief), _unet_and_clip(thorough)
    short, long = _unet_settings(brief), _unet_settings(thorough)
    return (
        f"How the U-Net is trained matters much. On a GPU, with {long['epochs']} epochs in place of {short['epochs']} "
        f"and {long['width']} channels in place of {short['width']}, it reaches mIoU {_score(long_unet)} on the same "
        f"photos; the decoder, with the same settings there as here, {_score(long_clip)}. So of the distance of "
        f"{clip['mIoU'] - unet['mIoU']:.3f} between the two, {long_clip['mIoU'] - long_unet['mIoU']:.3f} is left."
    )


def _unet_and_clip(records: list[dict]) -> list[pd.Series]:
    """The rows of the two models in a study's table, by the primary protocol, without what is stale."""
    rows = results_table([one for one in select(records, protocol=PRIMARY) if "stale" not in one])
    return [rows[rows["model"] == model].iloc[0] for model in ("unet", "clip")]


def _unet_settings(records: list[dict]) -> dict:
    return next(one["trained_on"]["settings"] for one in records if one["model"] == "unet" and "stale" not in one)


def limits(records: list[dict], breeds: pd.Series | None = None) -> str:
    """What a study's numbers stand on, and what was not measured; Markdown.

    Parameters
    ----------
    records : list of dict
        Of one study.
    breeds : Series, optional
        The breed of each picture of the data, to say how uneven they are.
    """
    tested = select(records, protocol=PRIMARY)
    first, machines = tested[0], sorted({f"{record['machine']}, {record['device']}" for record in tested})
    encoders = sorted({record["encoder"] for record in tested if record["encoder"]})
    learned = first["trained_on"]["n_images"]
    stand_in = any(encoder.startswith("lite:") for encoder in encoders)
    seeds = {model: len({r["seed"] for r in tested if r["model"] == model}) for model in MODELS}
    seeds = {model: count for model, count in seeds.items() if count}
    few = ", ".join(model for model, count in seeds.items() if count == 1)
    lines = [
        f"Encoder: {', '.join(encoders) or 'none'}."
        + (" It is a stand-in. **No number here is CLIP's**, and none says what CLIP would do." if stand_in else ""),
        f"Pictures: {learned} to train; {first['n_images']}, of {first['n_breeds']} breeds, to test.",
        f"Machine: {'; '.join(machines)}. Times were taken beside other work, and hold for this machine only.",
    ]
    if breeds is not None and len(breeds):
        share = breeds.value_counts(normalize=True)
        lines.append(
            f"Breeds: {len(share)} in all; {', '.join(share.index[:3])} are the most frequent and make "
            f"{share.iloc[:3].sum():.0%} of the pictures. Of the rarer ones few pictures were tested."
        )
    if few:
        lines.append(f"Trained once only: {few}. How far another run would move them was not measured.")
    return "\n".join(f"* {line}" for line in lines)
