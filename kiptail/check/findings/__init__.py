"""What the facts mean for an operator (pure)."""
