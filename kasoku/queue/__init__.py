"""Asynchronous calls: kept on disk before they are acknowledged, run at least once, retried, given up with a record."""
