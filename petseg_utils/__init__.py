"""petseg: four ways to cut a pet out of a photo, compared on Oxford-IIIT Pet."""

__version__ = "0.2.0"
