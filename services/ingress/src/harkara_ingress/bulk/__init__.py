"""Bulk sends: one call, up to 100,000 recipients, taken in whole and fed into the saga at the account's rate."""
