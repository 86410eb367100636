//! Everything that flows: bodies, streams, upgrades, and what cuts them, against the built gateway over real sockets.

// Tells clippy that helpers of tests may unwrap too.
#![cfg(test)]

#[path = "streams/body_gate.rs"]
mod body_gate;
#[path = "streams/caller.rs"]
mod caller;
#[path = "streams/ends.rs"]
mod ends;
#[path = "streams/flows.rs"]
mod flows;
#[path = "streams/hostile.rs"]
mod hostile;
#[path = "streams/injecting.rs"]
mod injecting;
#[path = "streams/kill_switch.rs"]
mod kill_switch;
#[path = "streams/redacting.rs"]
mod redacting;
#[path = "streams/scrubbing.rs"]
mod scrubbing;
#[path = "streams/tokens.rs"]
mod tokens;
#[path = "streams/upstreams.rs"]
mod upstreams;
#[path = "streams/world.rs"]
mod world;
