"""The node agent: runs the vLLM engine of a spot node and drains it when the node is taken away.

Standard library only and Python 3.9 or newer: what a fresh Amazon Linux 2023 node has.
"""
