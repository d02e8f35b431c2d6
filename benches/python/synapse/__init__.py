"""A real Synapse by itself and with the module in turn, among homeservers that joined with events they signed."""
