"""Does a model know when it is wrong?  Confidence against accuracy, temperature scaling, and finding failures."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.metrics import roc_auc_score
from torch import nn
from torchmetrics.functional.classification import multiclass_calibration_error

from petseg_utils.data.labels import PADDING
from petseg_utils.data.pictures import PictureSet
from petseg_utils.data.tensors import batches_of
from petseg_utils.experiments.plotting import GREY, MODEL_COLOURS, new_figure
from petseg_utils.models.names import titled
from petseg_utils.scores.metrics import picture_confusions, picture_miou
from petseg_utils.scores.results import PRIMARY

STEP = 2  # every second row and column: neighbours are nearly alike, and this takes a quarter of the memory
BINS = 15  # bins of confidence, as in Guo et al.
WORST = 0.1  # share of the pictures that count as failures


@dataclass(frozen=True)
class Outputs:
    """A model's logits on a picture set, with its confidence and its score on each picture.

    Parameters
    ----------
    logits : ndarray
        ``float32 (pixels, 3)``: every second row and column, without border and padding.
    targets : ndarray
        ``uint8 (pixels,)``, the true classes.
    confidence : ndarray
        ``float (n,)``, the probability of the likeliest class, averaged over each picture's pixels without border and
        padding.
    miou : ndarray
        ``float (n,)``, mean IoU of each picture, without the border.
    """

    logits: np.ndarray
    targets: np.ndarray
    confidence: np.ndarray
    miou: np.ndarray


@torch.inference_mode()
def outputs_of(network: nn.Module, pictures: PictureSet) -> Outputs:
    """Run a model on a picture set, and collect what calibration needs."""
    logits_of_pixels, targets, confidence, miou = [], [], [], []
    for part, images in batches_of(pictures, network):
        labels = np.array(pictures.labels[part])
        logits = network(images).float()
        surest = logits.softmax(1).amax(1).cpu().numpy()
        classes = logits.argmax(1).to(torch.uint8).cpu().numpy()
        confidence += [sure[label < PADDING].mean() for sure, label in zip(surest, labels, strict=True)]
        miou.append(picture_miou(picture_confusions(labels, classes), PRIMARY))
        coarse = labels[:, ::STEP, ::STEP]
        logits_of_pixels.append(logits[:, :, ::STEP, ::STEP].movedim(1, -1).cpu().numpy()[coarse < PADDING])
        targets.append(coarse[coarse < PADDING])
    return Outputs(
        np.concatenate(logits_of_pixels), np.concatenate(targets), np.array(confidence), np.concatenate(miou)
    )


def reliability(outputs: Outputs, temperature: float = 1.0) -> pd.DataFrame:
    """Return confidence and accuracy of the pixels in each of 15 equally wide bins of confidence.

    Returns
    -------
    DataFrame
        ``confidence`` and ``accuracy`` (means, 0..1) and ``share`` of the pixels; empty bins are left out.
    """
    chances = softmax(outputs.logits / temperature, axis=1)
    surest, right = chances.max(1), chances.argmax(1) == outputs.targets
    bins = np.minimum((surest * BINS).astype(int), BINS - 1)
    count = np.bincount(bins, minlength=BINS)
    sums = pd.DataFrame(
        {
            "confidence": np.bincount(bins, surest, BINS),
            "accuracy": np.bincount(bins, right, BINS),
            "share": count * count / len(bins),
        }
    )
    return (sums[count > 0].T / count[count > 0]).T.reset_index(drop=True)


def expected_calibration_error(outputs: Outputs, temperature: float = 1.0) -> float:
    """Return the mean gap between confidence and accuracy over 15 bins, weighted by pixels; 0 is perfect, 1 the worst.

    References
    ----------
    Naeini, Cooper, Hauskrecht: "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI 2015.
    """
    chances = torch.from_numpy(softmax(outputs.logits / temperature, axis=1))
    targets = torch.from_numpy(outputs.targets).long()
    return float(multiclass_calibration_error(chances, targets, chances.shape[1], n_bins=BINS, norm="l1"))


def fit_temperature(outputs: Outputs) -> float:
    """Return the divisor of the logits that minimises the pixels' negative log-likelihood; over 1: overconfident there.

    Fit it on validation pictures.  Dividing by it changes no predicted class.

    References
    ----------
    Guo, Pleiss, Sun, Weinberger: "On Calibration of Modern Neural Networks", ICML 2017, arXiv:1706.04599.
    """
    rows = np.arange(len(outputs.targets))

    def loss(log_temperature: float) -> float:
        return -log_softmax(outputs.logits / np.exp(log_temperature), axis=1)[rows, outputs.targets].mean()

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded").x))


def finds_failures(outputs: Outputs) -> float:
    """Return the chance that a failed picture has less confidence than another one (ROC AUC); 0.5 is guessing.

    The tenth of the pictures with the lowest mIoU count as failed, at least one.
    """
    failed = np.zeros(len(outputs.miou), bool)
    failed[np.argsort(outputs.miou, kind="stable")[: max(1, round(WORST * len(failed)))]] = True
    return float(roc_auc_score(failed, -outputs.confidence))


def calibrate(networks: dict[str, nn.Module], validation: PictureSet, test: PictureSet) -> tuple[pd.DataFrame, dict]:
    """Measure each model's calibration on the test pictures, with temperatures fitted on the validation pictures.

    Returns
    -------
    DataFrame
        One row per model: ``accuracy`` and ``confidence`` of the pixels, ``ECE``, ``temperature``, ``ECE after``, and
        ``finds failures``, from `finds_failures`.
    dict
        Model name to its `Outputs` on the test pictures.
    """
    rows, by_model = {}, {}
    for name, network in networks.items():
        temperature = fit_temperature(outputs_of(network, validation))
        outputs = by_model[name] = outputs_of(network, test)
        before = reliability(outputs)
        rows[name] = {
            "accuracy": (before["accuracy"] * before["share"]).sum(),
            "confidence": (before["confidence"] * before["share"]).sum(),
            "ECE": expected_calibration_error(outputs),
            "temperature": temperature,
            "ECE after": expected_calibration_error(outputs, temperature),
            "finds failures": finds_failures(outputs),
        }
    return pd.DataFrame(rows).T.rename_axis("model"), by_model


def calibration_sentences(table: pd.DataFrame) -> str:
    """Say which models are overconfident, what temperature scaling does, and how well low confidence finds failures."""
    sure = table["confidence"] - table["accuracy"]
    lower = table.index[table["ECE after"] < table["ECE"]].map(titled)
    otherwise = table.index[(sure > 0) != (table["temperature"] > 1)].map(titled)
    finds = ", ".join(f"{titled(name)} {value:.2f}" for name, value in table["finds failures"].items())
    turned = f" By the temperature, it was the other way round on the validation pictures for: {_listed(otherwise)}."
    return (
        f"Too sure on average on the test pictures: {_listed(table.index[sure > 0].map(titled))}; not sure enough: "
        f"{_listed(table.index[sure < 0].map(titled))}.{turned if len(otherwise) else ''} Temperature scaling lowers "
        f"the ECE of: {_listed(lower) if len(lower) else 'no model'}. Low confidence finds failures: {finds}. Neither "
        "has an interval here, so small differences may be chance."
    )


def _listed(names: pd.Index) -> str:
    return ", ".join(names) or "none"


def reliability_chart(by_model: dict[str, Outputs], table: pd.DataFrame) -> Figure:
    """Draw accuracy by confidence before and after scaling (left, middle), and pictures' mIoU by confidence (right)."""
    figure, axes = new_figure(1, 3, width=11, height=3.7)
    for name, outputs in by_model.items():
        colour = MODEL_COLOURS[name]
        for axis, temperature in zip(axes[:2], (1.0, table.loc[name, "temperature"]), strict=True):
            bins = reliability(outputs, temperature)
            axis.plot(bins["confidence"], bins["accuracy"], color=colour, label=titled(name), linewidth=1.4)
            axis.scatter(bins["confidence"], bins["accuracy"], 4 + 120 * bins["share"], color=colour, alpha=0.8)
        axes[2].scatter(outputs.confidence, outputs.miou, s=12, color=colour, alpha=0.6, edgecolor="none")
    for axis, title in zip(axes[:2], ("As trained", "After temperature scaling"), strict=True):
        axis.plot([0, 1], [0, 1], color=GREY, linewidth=1)
        axis.set(title=title, xlabel="confidence of pixels", xlim=(0.3, 1.01), ylim=(0, 1.01))
    axes[0].set_ylabel("accuracy of pixels")
    axes[2].set(title="Each picture", xlabel="mean confidence", ylabel="mIoU of the picture", ylim=(0, 1.01))
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names))
    return figure
