"""What an evaluation releases: each output's place in the summed vector, and the table of recordings held twice."""
