"""The experiments behind the notebooks: one file per question, with the charts that answer it."""
