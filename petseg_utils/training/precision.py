"""The numerical precision in which a run computes."""

import torch

from petseg_utils.study import TrainingSettings


def chosen_precision(settings: TrainingSettings) -> str:
    """Return ``"bf16"`` or ``"no"``: what the settings say or, for ``"auto"``, what suits this machine."""
    if settings.mixed_precision != "auto":
        return settings.mixed_precision
    return "bf16" if computes_bf16() else "no"


def computes_bf16() -> bool:
    """Return whether the device has instructions for bfloat16; without them it is emulated, many times slower."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able = torch.cpu.get_capabilities()
    return able.get("avx512_bf16", False) or able.get("amx_bf16", False)
