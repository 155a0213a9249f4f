"""From words to a candidate: the prompt, the call, the reply, and the ledger that keeps it from running away."""
