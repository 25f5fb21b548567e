"""What sensors measure and where they are: electrodes of an EEG, magnetometers and gradiometers of an MEG."""
