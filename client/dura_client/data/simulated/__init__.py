"""Simulated hospitals: recordings whose truth is known, with honest differences between sites."""
