//! Under which circumstances a lease was obtained.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

/// Which circumstances the leases of a tool belong to, besides its environment and the task's owner and labels.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ContextRule {
    /// Keys of what agents declare (`Agent-Context`). One that is not declared differs from one that is.
    pub declared: Vec<String>,
    /// Whether the caller's network is among them.
    pub network: NetworkRule,
}

/// Whether a lease belongs to the caller's network.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum NetworkRule {
    /// To its /24 (IPv4) or /64 (IPv6): what one site or one host is commonly given, so that another address of the same
    /// one is no change. This machine's own addresses are one network.
    #[default]
    Subnet,
    /// To none.
    Any,
}

/// The circumstances of one call, borrowed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Circumstances<'a> {
    pub(crate) environment: Option<&'a str>,
    pub(crate) owner: &'a str,
    /// Those the task was opened with, and those its calls gave it.
    pub(crate) labels: [&'a [String]; 2],
    pub(crate) client: Option<IpAddr>,
    pub(crate) declared: &'a Map<String, Value>,
    pub(crate) rule: &'a ContextRule,
}

/// The circumstances that a lease belongs to.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Context {
    /// The tool's environment.
    #[serde(default)]
    pub environment: Option<String>,
    /// On whose behalf.
    #[serde(default)]
    pub owner: String,
    /// The task's labels, sorted.
    #[serde(default)]
    pub labels: Vec<String>,
    /// The caller's network; none where it does not count or is not known.
    #[serde(default)]
    pub network: Option<Network>,
    /// What the agent declared, of the keys that count.
    #[serde(default)]
    pub declared: Map<String, Value>,
}

impl Circumstances<'_> {
    pub(crate) fn context(&self) -> Context {
        let mut labels = self.labels.concat();
        labels.sort_unstable();
        let declared = self.rule.declared.iter();
        let declared =
            declared.filter_map(|key| Some((key.clone(), self.declared.get(key)?.clone())));
        Context {
            environment: self.environment.map(str::to_owned),
            owner: self.owner.to_owned(),
            labels,
            network: self.network(),
            declared: declared.collect(),
        }
    }

    fn network(&self) -> Option<Network> {
        match self.rule.network {
            NetworkRule::Subnet => self.client.map(Network::of),
            NetworkRule::Any => None,
        }
    }
}

impl Context {
    /// Whether a call belongs here. Allocates nothing.
    pub(crate) fn fits(&self, call: &Circumstances<'_>) -> bool {
        self.environment.as_deref() == call.environment
            && self.owner == call.owner
            && self.has_labels(call)
            && !self.alternates(call)
    }

    /// Whether a call differs in what may be as it was a moment later: the others change for good.
    pub(crate) fn alternates(&self, call: &Circumstances<'_>) -> bool {
        self.network != call.network() || !self.has_declared(call)
    }

    fn has_labels(&self, call: &Circumstances<'_>) -> bool {
        let [opened, given] = call.labels;
        let mut labels = opened.iter().chain(given);
        self.labels.len() == opened.len() + given.len()
            && labels.all(|label| self.labels.binary_search(label).is_ok())
    }

    fn has_declared(&self, call: &Circumstances<'_>) -> bool {
        let keys = call.rule.declared.iter();
        let mut declared = keys.filter_map(|key| Some((key, call.declared.get(key)?)));
        let count = declared.clone().count();
        self.declared.len() == count
            && declared.all(|(key, value)| self.declared.get(key) == Some(value))
    }
}

/// A network that a caller is in: an IPv4 /24 or an IPv6 /64, by its first address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Network(IpAddr);

/// Both loopback networks: who resolves `localhost` may come by either.
const THIS_MACHINE: Network = Network(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)));

impl Network {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            address if address.is_loopback() => THIS_MACHINE,
            IpAddr::V4(address) => {
                let [a, b, c, _] = address.octets();
                Self(Ipv4Addr::new(a, b, c, 0).into())
            }
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into())
            }
        }
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bits = if self.0.is_ipv4() { 24 } else { 64 };
        write!(f, "{}/{bits}", self.0)
    }
}

impl FromStr for Network {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let address = text.split_once('/').map_or(text, |(address, _)| address);
        address.parse().map(Self::of)
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check_network(one: &str, other: &str, same: bool) {
        let network = |text: &str| Network::of(text.parse().unwrap());
        assert_eq!(network(one) == network(other), same, "{one} {other}");
        let written = serde_json::to_value(network(one)).unwrap();
        let read: Network = serde_json::from_value(written).unwrap();
        assert_eq!(read, network(one));
    }

    #[test]
    fn a_network_is_a_24_or_a_64() {
        check_network("192.0.2.1", "192.0.2.254", true);
        check_network("192.0.2.1", "192.0.3.1", false);
        check_network("2001:db8::1", "2001:db8::ffff:1", true);
        check_network("2001:db8::1", "2001:db8:0:1::1", false);
        check_network("192.0.2.1", "2001:db8::1", false);
    }
    #[test]
    fn one_address_is_one_however_it_is_written() {
        check_network("192.0.2.1", "::ffff:192.0.2.9", true);
    }
    #[test]
    fn this_machine_is_one_network() {
        check_network("127.0.0.1", "::1", true);
        check_network("127.0.0.1", "127.3.0.1", true);
        check_network("127.0.0.1", "10.0.0.1", false);
    }

    /// Whether a call fits a lease that was obtained with `ticket=1`, labels `a` and `b`, from 192.0.2.1.
    #[track_caller]
    fn check(change: impl FnOnce(&mut Circumstances<'_>), fits: bool, alternates: bool) {
        let rule = ContextRule {
            declared: vec!["ticket".to_owned(), "branch".to_owned()],
            network: NetworkRule::Subnet,
        };
        let declared = json!({ "ticket": "1", "mood": "good" });
        let opened = ["b".to_owned()];
        let given = ["a".to_owned()];
        let mut call = Circumstances {
            environment: Some("prod"),
            owner: "alice",
            labels: [&opened, &given],
            client: Some("192.0.2.1".parse().unwrap()),
            declared: declared.as_object().unwrap(),
            rule: &rule,
        };
        let context = call.context();
        change(&mut call);
        assert_eq!(context.fits(&call), fits, "{context:?} {call:?}");
        assert_eq!(context.alternates(&call), alternates);
    }

    #[test]
    fn a_call_like_the_first_fits() {
        check(|_| {}, true, false);
    }
    #[test]
    fn another_owner_or_environment_does_not() {
        check(|call| call.owner = "bob", false, false);
        check(|call| call.environment = None, false, false);
        check(|call| call.environment = Some("staging"), false, false);
    }
    #[test]
    fn other_labels_do_not_in_whatever_order_the_same_ones_do() {
        check(|call| call.labels[1] = &[], false, false);
        check(|call| call.labels.reverse(), true, false);
    }
    #[test]
    fn another_network_does_not() {
        check(
            |call| call.client = Some("198.51.100.1".parse().unwrap()),
            false,
            true,
        );
        check(|call| call.client = None, false, true);
        check(
            |call| call.client = Some("192.0.2.77".parse().unwrap()),
            true,
            false,
        );
    }
    #[test]
    fn what_is_declared_otherwise_does_not() {
        let declared = |value: Value| Box::leak(Box::new(value)).as_object().unwrap();
        check(
            |call| call.declared = declared(json!({ "ticket": "2" })),
            false,
            true,
        );
        check(|call| call.declared = declared(json!({})), false, true);
        let more = json!({ "ticket": "1", "branch": "main" });
        check(|call| call.declared = declared(more), false, true);
        let others = json!({ "ticket": "1", "mood": "bad" });
        check(|call| call.declared = declared(others), true, false);
    }
    #[test]
    fn where_the_network_does_not_count_any_fits() {
        let any = ContextRule {
            declared: Vec::new(),
            network: NetworkRule::Any,
        };
        let declared = Map::new();
        let mut call = Circumstances {
            environment: None,
            owner: "alice",
            labels: [&[], &[]],
            client: Some("192.0.2.1".parse().unwrap()),
            declared: &declared,
            rule: &any,
        };
        let context = call.context();
        call.client = Some("198.51.100.1".parse().unwrap());
        assert!(context.fits(&call));
    }
}
