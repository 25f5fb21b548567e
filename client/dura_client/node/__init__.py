"""The processes of a site: SuperNode, runner, the app that the runner serves, and its answers."""
