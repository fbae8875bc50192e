"""Functions at rest: made at readiness, kept encrypted, verified once, held as sealed memory for instances."""
