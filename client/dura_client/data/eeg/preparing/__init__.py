"""From one patient's EEG recordings to the study's windows, block by block."""
