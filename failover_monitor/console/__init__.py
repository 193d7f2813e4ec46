"""What an operator sits at: one file for what belongs together of the commands.

Rule: nothing here decides.  It reads what the monitor wrote down, and leaves requests as files.
"""
