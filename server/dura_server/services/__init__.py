"""The processes of a coordinator: SuperLink, gateway, aggregation service, and their supervision."""
