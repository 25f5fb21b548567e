"""What lies around recordings, as the doctor judges it: tables of patients, visits and features, and stray files."""
