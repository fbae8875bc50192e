"""Blobs: data beyond a payload, by content."""
