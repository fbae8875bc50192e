"""Volumes: read-only directories for model weights and data sets, kept like image layers."""
