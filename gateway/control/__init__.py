"""Control state: keys, switches, and the index of what is running."""
