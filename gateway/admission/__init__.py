"""What may begin: rates, slots and budgets, asked of the store in one step, or of what is left of it."""
