"""EEG recordings: BIDS folders, and signal processing up to windows."""
