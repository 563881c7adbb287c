"""The whole system as its user has it: one command starts it, the HTTP API and a phone are all that a test touches."""
