"""What a loss counts, and what it leaves out."""

import pytest
import torch

from petseg_utils.data.labels import BORDER, PADDING
from petseg_utils.models.unet import PIXEL_MEAN
from petseg_utils.training.losses import dice_loss, hide_patches, reconstruction_loss, segmentation_loss


def test_hidden_patches_are_whole_cells_of_the_share_asked_for():
    torch.manual_seed(0)
    images = torch.full((40, 3, 64, 64), 7.0)
    seen = hide_patches(images, 0.3)
    hidden = (seen != 7).all(1)
    cells = hidden.unfold(1, 16, 16).unfold(2, 16, 16).flatten(3)
    assert (cells.all(-1) | ~cells.any(-1)).all()
    assert hidden.float().mean().item() == pytest.approx(0.3, abs=0.06)
    assert seen[:, 1][hidden].unique().item() == pytest.approx(PIXEL_MEAN[1])


def test_padding_does_not_enter_the_loss_and_a_crop_is_a_window_of_the_picture():
    class Dark(torch.nn.Module):
        def forward(self, images):
            self.shape = images.shape
            return torch.zeros_like(images)

    images = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
    labels = torch.zeros(2, 64, 64, dtype=torch.uint8)
    images[:, :, 32:] = 255
    labels[:, 32:] = PADDING
    model = Dark()
    assert reconstruction_loss(model, {"image": images, "label": labels}).item() == 0
    whole = {"image": images, "label": torch.zeros_like(labels)}
    assert reconstruction_loss(model, whole).item() == pytest.approx(0.5)
    reconstruction_loss(model, whole, crop=16)
    assert model.shape == (2, 3, 16, 16)


def test_border_and_padding_carry_no_loss():
    model = torch.nn.Conv2d(3, 3, 1)
    image = torch.rand(1, 3, 8, 8)
    label = torch.ones(1, 8, 8, dtype=torch.uint8)
    label[:, :4] = BORDER
    label[:, 6:] = PADDING
    loss = segmentation_loss(model, {"image": image, "label": label})
    inside = segmentation_loss(model, {"image": image[:, :, 4:6], "label": label[:, 4:6]})
    assert torch.isclose(loss, inside)


def test_dice_loss_is_zero_for_a_perfect_answer_and_leaves_absent_classes_and_ignored_pixels_out():
    targets = torch.tensor([[[0, 0, 1, -100], [0, 1, 1, -100]]])
    logits = 50.0 * torch.nn.functional.one_hot(targets.clamp(min=0), 3).movedim(-1, 1)
    assert dice_loss(logits, targets).item() == pytest.approx(0, abs=1e-6)
    wrong = logits.clone()
    wrong[..., -1] = 50.0 * torch.tensor([0.0, 0.0, 1.0])[None, :, None]  # a third class, where nobody counts
    assert dice_loss(wrong, targets).item() == pytest.approx(0, abs=1e-6)
    half = torch.zeros(1, 3, 2, 4)
    half[:, 0] = 50.0  # background everywhere: Dice of background 2*3/(3+6), of cat 0
    assert dice_loss(half, targets).item() == pytest.approx(1 - (2 * 3 / 9 + 0) / 2, abs=1e-5)
