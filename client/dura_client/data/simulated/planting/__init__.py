"""Defects that are planted in simulated data on purpose, each with the finding that must name it."""
