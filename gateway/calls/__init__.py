"""Calls: one upstream answer in the making, and who waits for it."""
