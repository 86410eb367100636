//! Fakes with real sockets: an upstream, an issuer, a collector.
