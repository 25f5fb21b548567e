"""`dura demo`: a whole study on simulated hospitals, through public commands only."""
