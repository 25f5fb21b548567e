"""The patients of a study: their cohort, their split into training and held-out sides, and withdrawals."""
