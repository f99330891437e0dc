"""What processes share: one contract, two implementations (in process, and Redis)."""
