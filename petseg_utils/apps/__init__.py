"""The user interfaces: command line, page and notebook widget."""
