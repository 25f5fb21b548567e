"""The tables of a data set as the doctor judges them: patients, visits, recordings, and the cells of their columns."""
