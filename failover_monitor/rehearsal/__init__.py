"""Rehearsals: the production monitor in a written story, in virtual time.

Rule: nothing here touches the real world, and the daemon imports nothing of it.
"""
