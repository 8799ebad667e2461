"""SMPP binds to carriers: submits, receipts, inbound SMS."""
