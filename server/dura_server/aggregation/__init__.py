"""The aggregation plane at the coordinator: streams of sites, sessions of secure sums, the ServerApp's door.

``identity`` says who is at the other end of a stream, ``stream`` carries frames, ``session`` runs attempts until all
sums are opened, ``service`` is the public port, ``door`` and ``client`` are the two ends of the socket between the
service and the ServerApp. ``dura_server.aggregator`` is the process.
"""
