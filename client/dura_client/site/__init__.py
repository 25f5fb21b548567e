"""What this hospital's installation is: its folder, settings, keys and policy file."""
