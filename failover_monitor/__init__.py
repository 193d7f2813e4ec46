"""Watches a primary host from its standby and moves systemd services between the two."""

__version__ = "1.0.0"
