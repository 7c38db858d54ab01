"""Earlier names of models: cards and records keep the names that their runs wrote."""

RENAMED = {"clip": "decoder", "clip_selftrained": "decoder_selftrained"}  # until version 0.2
