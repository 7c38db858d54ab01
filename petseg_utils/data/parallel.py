"""Training one model in several processes: each has a share of every batch, and sums are over all processes.

A single process has one share, the whole batch: nothing here changes what it computes.
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from petseg_utils.study import PetsegError


def place() -> tuple[int, int]:
    """Return the number of this process, from 0, and the number of processes."""
    joined = dist.is_available() and dist.is_initialized()
    return (dist.get_rank(), dist.get_world_size()) if joined else (0, 1)


def share(length: int) -> slice:
    """Return this process's share of `length` rows; shares are disjoint, and their lengths differ by at most one."""
    number, processes = place()
    return slice(length * number // processes, length * (number + 1) // processes)


class _Sum(torch.autograd.Function):
    """A sum over all processes.

    Every process computes the same loss from the same sums, so gradients are those of the sum of these losses.
    """

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return _reduced(x)

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return _reduced(gradient)


def _reduced(x: Tensor) -> Tensor:
    x = x.detach().clone(memory_format=torch.contiguous_format)
    try:
        dist.all_reduce(x)
    except RuntimeError as error:
        raise PetsegError(
            "Another process of this training has ended or no longer answers, so this one ends too: start all of them "
            "again with --resume, which goes on from the last finished epoch."
        ) from error
    return x


def summed(x: Tensor) -> Tensor:
    """Sum a tensor, of the same shape in all processes, over the processes; gradients flow back to each of them.

    Raises
    ------
    PetsegError
        If another process has ended.
    """
    return _Sum.apply(x) if place()[1] > 1 else x


def total_of(counts: np.ndarray) -> np.ndarray:
    """Sum an array, of the same shape in all processes, over the processes."""
    return summed(torch.from_numpy(counts).to(_device())).cpu().numpy() if place()[1] > 1 else counts


def mean_of(values: np.ndarray) -> float:
    """Return the mean of the values of all processes, of which each passes its own ``(n,)``."""
    return float(total_of(values.sum(keepdims=True))[0] / whole_length(len(values)))


def _device() -> str:
    return "cuda" if dist.get_backend() == "nccl" else "cpu"  # where tensors must lie to be sent between processes


def whole_length(rows: int) -> int:
    """Return how many rows all shares have together."""
    return int(summed(torch.tensor(rows, device=_device()))) if place()[1] > 1 else rows


def wait_for_all() -> None:
    """Wait until all processes have reached this point."""
    whole_length(0)


def whole(x: Tensor) -> Tensor:
    """Return the rows of all shares in order, ``(n, …)``, without gradients; `x` is this process's share."""
    if place()[1] == 1:
        return x.detach()
    length = whole_length(len(x))
    rows = x.new_zeros((length, *x.shape[1:]))
    rows[share(length)] = x.detach()
    return _reduced(rows)


def drawn(rows: int, draw: Callable[[int], Tensor]) -> Tensor:
    """Return this process's share of random numbers drawn for all rows, so that they do not depend on the sharing.

    Parameters
    ----------
    rows : int
        Number of this process's rows.
    draw : callable
        ``draw(length)`` returns a tensor of that many rows; the generators of all processes must be in the same state.
    """
    length = whole_length(rows)
    return draw(length)[share(length)]


def average_gradients(module: nn.Module) -> None:
    """Replace each gradient of a module by its mean over all processes: the gradient of the whole batch's loss."""
    if place()[1] == 1:
        return
    gradients = [weight.grad for weight in module.parameters() if weight.grad is not None]
    together = _reduced(torch.cat([gradient.flatten() for gradient in gradients])) / place()[1]
    parts = together.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view(gradient.shape))


class WholeBatchNorm2d(nn.BatchNorm2d):
    """Batch norm with the mean and variance of the whole batch; torch's own `SyncBatchNorm` needs GPUs."""

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to the same shape."""
        if not self.training:
            return super().forward(x)
        mean_so_far, variance_so_far = cast(Tensor, self.running_mean), cast(Tensor, self.running_var)
        values = x.to(mean_so_far.dtype)
        number = values.new_tensor([x.numel() / x.shape[1]])
        sums = summed(torch.cat([values.sum((0, 2, 3)), number]))
        mean, number = sums[:-1] / sums[-1], sums[-1].detach()
        centred = values - mean.view(1, -1, 1, 1)
        variance = summed(centred.square().sum((0, 2, 3))) / number
        normal = centred * (variance + self.eps).rsqrt().view(1, -1, 1, 1)
        if self.affine:
            normal = normal * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
        mean_so_far.lerp_(mean.detach(), cast(float, self.momentum))
        variance_so_far.lerp_(variance.detach() * number / (number - 1), cast(float, self.momentum))
        cast(Tensor, self.num_batches_tracked).add_(1)
        return normal.to(x.dtype)


class WholeDropout2d(nn.Dropout2d):
    """Dropout that drops in this share what a single process would drop in these rows of the whole batch."""

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to the same shape."""
        if not self.training or self.p == 0:
            return x
        kept = 1 - self.p
        return x * drawn(len(x), lambda length: x.new_empty(length, x.shape[1], 1, 1).bernoulli_(kept)).div(kept)


def train_together(model: nn.Module) -> None:
    """Make the layers that depend on the whole batch use it, if there are several processes.

    The names and shapes of the model's weights stay as they are.
    """
    if place()[1] == 1:
        return
    for layer in model.modules():
        for plain, together in ((nn.BatchNorm2d, WholeBatchNorm2d), (nn.Dropout2d, WholeDropout2d)):
            if type(layer) is plain:
                layer.__class__ = together
