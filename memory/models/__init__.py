"""Language models, asked and checked: the client, the prompts, what an answer must hold."""
