"""``python -m petseg_utils`` is the same as ``petseg``."""

from petseg_utils.cli import main

main()
