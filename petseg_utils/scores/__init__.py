"""How good is a mask?  Scores, intervals, records and their tables."""
