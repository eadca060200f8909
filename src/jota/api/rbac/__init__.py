"""Role based access control: rules.py decides, index.py finds the rules of a user, bootstrap.py has the built-in roles."""
