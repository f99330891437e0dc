"""What a request cost, and the proof of it: prices, token estimates, the ledger's journal."""
