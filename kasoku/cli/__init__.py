"""The kasoku command."""
