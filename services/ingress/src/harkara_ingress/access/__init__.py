"""Who may come in: accounts and their keys, from where, signed how, and how often."""
