"""How many instances a function should have. Pure."""
