"""HTTP between callers and the gateway (RFC 9110): connections, routes, request ids, access log and deadlines."""
