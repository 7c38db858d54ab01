"""``python -m petseg_utils`` is the same as ``petseg``."""

from petseg_utils.apps.cli.main import main

main()
