"""Who should answer: split a question, classify its parts, plan, fuse the answers."""
