"""Which running instance takes an invocation. Pure."""
