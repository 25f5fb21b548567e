"""Training and scoring at the site, with the patient as the unit of privacy."""
