"""What is wrong with recordings, and what a reader or a step did to them: each finding with place, cause and remedy."""
