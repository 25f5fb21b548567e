"""From one patient's EEG or MEG recordings to the study's windows, block by block."""
