"""GPT-2 and GPT-NeoX language models, as transformers implements them: what is trained is what is published."""

REVISION = 1
