"""The function runner: imports a handler and answers events over one channel. Standard library only."""
