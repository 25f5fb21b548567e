"""fMRI: regions' time series to connectomes."""
