"""What an operator sees: log lines, metrics, the event loop's lag."""
