"""Follows incidents to their end: the drains that nodes report, and the replacements' launches."""
