"""From a BIDS folder to examples that a study can use: simulate, import, register, check, prepare."""
