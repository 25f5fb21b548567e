"""From a BIDS folder to windows that a study can use: simulate, register, check, prepare."""
