"""Arabic named-entity recognition: fine-tune a token classifier, score it, and tag articles with character-exact names."""
