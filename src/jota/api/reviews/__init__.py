"""Reviews: questions about identity and access, asked with a POST and answered at once; nothing is stored."""
