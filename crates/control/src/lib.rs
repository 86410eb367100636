//! What operators and orchestrators say: tasks, tokens, leases, status.
