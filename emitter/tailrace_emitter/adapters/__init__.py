"""One file per client whose calls can be recorded."""
