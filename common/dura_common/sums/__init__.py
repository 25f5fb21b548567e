"""What coordinator and sites agree on about one secure sum: its parameters, its attempts, its pieces on the wire."""
