"""The pocket experts: a base of a few million parameters and its LoRA adapters, trained here from scratch."""
