"""Everything on which the hospital bases its decision: review against policy and budget, forecasts, local scores."""
