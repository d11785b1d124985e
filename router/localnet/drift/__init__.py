"""A model of the Drift v2 program (build 2.84): its accounts, instructions, refusals and events, in Python.

Nothing here is shared with the provider that it tests.
"""
