"""Who takes part: the patients of a study, their split into training and held-out sides, withdrawals."""
