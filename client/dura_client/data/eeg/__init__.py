"""EEG and MEG recordings: BIDS folders, and signal processing up to windows."""
