"""What training is made of: data, budget, losses, handlers."""
