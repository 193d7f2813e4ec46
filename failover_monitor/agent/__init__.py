"""Tells people and Prometheus what the monitor does: a process of its own, without rights.

Rule: it meets the monitor in files alone, and only reads them.  Nothing that happens here, or to a
mail server, can reach the watch.
"""
