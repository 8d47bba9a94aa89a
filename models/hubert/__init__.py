"""HuBERT speech models, as transformers implements them: what is trained is what is published."""

REVISION = 1
