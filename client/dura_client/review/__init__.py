"""What the hospital looks at before it decides: a study against policy and budget, forecasts, local scores."""
