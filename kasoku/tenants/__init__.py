"""Tenants: what is whose, and how much of it one may have. Pure."""
