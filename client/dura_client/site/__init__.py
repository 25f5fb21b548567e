"""This hospital's installation: its folder, settings, keys and policy file."""
