"""Where an instance may start, and what must make room for it. Pure."""
