"""HTTP between callers and the gateway (RFC 9110): connections, routes, ids, logs and deadlines."""
