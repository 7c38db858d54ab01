"""How good is a mask?  Scores, their intervals, records of runs, and tables of them."""
