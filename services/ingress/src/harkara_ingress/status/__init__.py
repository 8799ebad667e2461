"""What became of messages: folded from their events, searched, counted, and told as it happens."""
