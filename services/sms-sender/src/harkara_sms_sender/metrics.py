"""What the sender counts, by carrier."""

from harkara_chassis.metrics import counter, gauge

PARTS = counter("harkara_sms_parts", "Parts handed to carriers, by outcome.", ("carrier", "outcome"))
DELIVERIES = counter("harkara_sms_deliveries", "What carriers delivered to us, by kind.", ("carrier", "kind"))
UNKNOWN_CODES = counter("harkara_sms_unknown_carrier_codes", "Carrier codes that no table lists.", ("carrier", "kind"))
BOUND = gauge("harkara_sms_carrier_healthy", "1 while a bind to the carrier stands.", ("carrier",))
