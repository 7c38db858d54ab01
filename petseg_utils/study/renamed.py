"""Names that models had in earlier versions: cards and records keep what their run wrote."""

RENAMED = {"clip": "decoder", "clip_selftrained": "decoder_selftrained"}  # until version 0.2
