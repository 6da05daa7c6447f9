"""What can answer: the fleet file's schema, the prompt, the errors, and the pocket experts."""
