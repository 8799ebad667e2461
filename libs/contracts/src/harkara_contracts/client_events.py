"""The names of what clients are told: over webhooks, the event log, and wherever they may choose.

Some are not told by any service yet; choosing them early does no harm.
"""

CLIENT_EVENTS = frozenset(
    {
        "message.sent",
        "message.delivered",
        "message.failed",
        "message.cancelled",
        "message.read",
        "message.replied",
        "message.clicked",
        "message.opened",
        "otp.verified",
        "campaign.completed",
        "account.low_balance",
        "template.approved",
        "template.rejected",
        "template.suspended",
    }
)
