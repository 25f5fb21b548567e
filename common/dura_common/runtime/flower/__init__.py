"""What both sides change in Flower: where it listens, and how long it waits."""
