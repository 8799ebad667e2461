"""One message: what a client writes, what it is judged by, made durable once, and taken back."""
