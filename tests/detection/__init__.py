"""Children that search, as real processes."""
