"""The gateway's own certificate: how it is made, when it is renewed, and who writes it."""
