"""Recordings as a clinic keeps them, brought into a BIDS folder of the site; the originals are only read."""
