"""An SMSC to run against: settable delay, throttling, errors and receipts."""
