"""The OpenAI dialect: /v1/models, chat, completions, embeddings."""
