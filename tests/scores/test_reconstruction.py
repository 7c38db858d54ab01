"""The PSNR is that of scikit-image, outside the padding."""

from dataclasses import replace

import numpy as np
from skimage.metrics import peak_signal_noise_ratio

from petseg_utils.data.labels import PADDING
from petseg_utils.scores.reconstruction import psnr


def test_psnr_is_scikit_images_where_there_is_no_padding(splits):
    pictures = splits["test"]
    whole = replace(pictures, labels=np.where(pictures.labels == PADDING, 0, pictures.labels))
    painted = np.clip(whole.images.astype(int) + np.random.default_rng(0).integers(-9, 9, whole.images.shape), 0, 255)
    painted = painted.astype(np.uint8)
    wanted = [peak_signal_noise_ratio(*pair) for pair in zip(whole.images, painted, strict=True)]
    np.testing.assert_allclose(psnr(whole, painted), wanted, rtol=1e-5)
    wild = np.where((pictures.labels == PADDING)[..., None], 255 - painted, painted)
    np.testing.assert_allclose(psnr(pictures, wild), psnr(pictures, painted))
