"""The aggregation service: a process of its own that opens secure sums for the ServerApp and shows it nothing else."""
