"""The coordinator's part of secure sums: it opens sums and never sees a vector of one site."""
