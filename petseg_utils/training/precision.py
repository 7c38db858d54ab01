"""In which precision a run computes."""

import torch

from petseg_utils.study import TrainingSettings


def chosen_precision(settings: TrainingSettings) -> str:
    """``"bf16"`` or ``"no"``: what the settings say, and for ``"auto"`` what this machine is good at."""
    if settings.mixed_precision != "auto":
        return settings.mixed_precision
    return "bf16" if computes_bf16() else "no"


def computes_bf16() -> bool:
    """Whether the device has instructions for bfloat16; without them it is emulated, many times slower."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able = torch.cpu.get_capabilities()
    return able.get("avx512_bf16", False) or able.get("amx_bf16", False)
