"""The campaign of faults: each test is named by its row, and accounts from outside.

F01–F28 are the faults that we survive: lost 0, stuck 0, and repeats only where a request may have
arrived whose result could not be recorded.
"""
