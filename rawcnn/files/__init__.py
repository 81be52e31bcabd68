"""Files: atomic writes, locks and journals."""
