"""Puts decisions into effect: pools of instances, waiting invocations, leases. Knows nodes, not HTTP."""
