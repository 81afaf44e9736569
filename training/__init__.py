"""Network definitions, UV layout, targets, losses and the training loop."""
