"""How a base model and data become an expert: fine-tuning, distillation, quantization, evaluation."""
