"""What serves people with photos: command line, page, notebook widget."""
