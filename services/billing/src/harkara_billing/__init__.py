"""Reserve, capture, release: price book and double-entry ledger."""
