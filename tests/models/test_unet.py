"""The U-Net is the U-Net."""

import pytest
import torch

from petseg_utils.models.unet import UNet, UNetEncoder, receptive_field


def test_the_original_width_has_the_original_size():
    assert sum(p.numel() for p in UNet(64).parameters()) == pytest.approx(31.0e6, rel=0.01)


@pytest.mark.parametrize("shape", [(64, 64), (32, 96)])
def test_logits_have_the_pictures_size(shape):
    assert UNet(4)(torch.zeros(2, 3, *shape)).shape == (2, 3, *shape)


def test_sizes_that_cannot_be_halved_four_times_are_refused():
    with pytest.raises(ValueError, match="multiples of 16"):
        UNet(4)(torch.zeros(1, 3, 40, 64))


@pytest.mark.parametrize("stages", [1, 2, 3, 5])
def test_receptive_field_is_what_gradients_reach(stages):
    encoder = UNetEncoder(2, stages).eval()
    for module in encoder.modules():  # positive weights and no dead units, so that no path is hidden
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.constant_(module.weight, 0.1)
    edge = receptive_field(stages)
    step = 2 ** (stages - 1)
    size = step * (2 * (edge // step) + 4)
    # Max-pooling passes the gradient to one cell of four only: averaging reaches all of them, as other inputs would.
    image = torch.ones(1, 3, size, size, dtype=torch.float64, requires_grad=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("petseg_utils.models.unet.F.max_pool2d", torch.nn.functional.avg_pool2d)
        deepest = encoder.double()(image)[-1]
    deepest[0, :, deepest.shape[2] // 2, deepest.shape[3] // 2].sum().backward()
    rows = (image.grad[0].abs().sum((0, 2)) > 0).nonzero().ravel()
    assert rows[-1] - rows[0] + 1 == edge


def test_a_skip_connection_carries_every_stage():
    model = UNet(4).eval()
    features = model.encoder(torch.randn(1, 3, 32, 32))
    whole = model.decoder(features)
    for stage in range(len(features)):
        cut = [f if i != stage else torch.zeros_like(f) for i, f in enumerate(features)]
        assert not torch.equal(model.decoder(cut), whole)
