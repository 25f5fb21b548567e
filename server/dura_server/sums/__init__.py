"""The coordinator's end of secure sums: it opens sums and never sees a vector of one site."""
