//! `net.cidr_*`: networks and the addresses in them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use regorus::Value;

use super::{Builtin, text};

/// How many addresses `net.cidr_expand` gives at most; how many pairs `net.cidr_contains_matches` looks at.
const MOST: u128 = 65_536;

pub(super) const BUILTINS: &[Builtin] = &[
    Builtin {
        name: "net.cidr_intersects",
        arguments: 2,
        function: intersects,
    },
    Builtin {
        name: "net.cidr_merge",
        arguments: 1,
        function: merge,
    },
    Builtin {
        name: "net.cidr_contains_matches",
        arguments: 2,
        function: contains_matches,
    },
    Builtin {
        name: "net.cidr_expand",
        arguments: 1,
        function: expand,
    },
];

fn network(text: &str) -> anyhow::Result<IpNet> {
    text.parse().map_err(|_| anyhow::anyhow!("not a network"))
}

fn intersects(arguments: &[Value]) -> anyhow::Result<Value> {
    let (one, other) = (network(text(arguments, 0)?)?, network(text(arguments, 1)?)?);
    Ok(Value::from(one.contains(&other) || other.contains(&one)))
}

/// The fewest networks that hold the same addresses. An IPv4 address without a length has that of its old class, as in
/// OPA; an IPv6 address needs one.
fn merge(arguments: &[Value]) -> anyhow::Result<Value> {
    let (mut old, mut new): (Vec<Ipv4Net>, Vec<Ipv6Net>) = Default::default();
    for item in items(arguments, 0)? {
        let Value::String(text) = item else {
            anyhow::bail!("argument 1 must hold strings");
        };
        match network(text).or_else(|_| classful(text))? {
            IpNet::V4(network) => old.push(network.trunc()),
            IpNet::V6(network) => new.push(network.trunc()),
        }
    }
    let old = Ipv4Net::aggregate(&old).into_iter().map(IpNet::V4);
    let new = Ipv6Net::aggregate(&new).into_iter().map(IpNet::V6);
    let merged = old
        .chain(new)
        .map(|network| Value::from(network.to_string()));
    Ok(Value::from(merged.collect::<BTreeSet<_>>()))
}

fn classful(text: &str) -> anyhow::Result<IpNet> {
    let IpAddr::V4(address) = text.parse()? else {
        anyhow::bail!("an IPv6 address needs a prefix length");
    };
    let length = match address.octets().first() {
        Some(0..=127) => 8,
        Some(128..=191) => 16,
        Some(192..=223) => 24,
        _ => anyhow::bail!("no network of a class"),
    };
    Ok(IpNet::V4(Ipv4Net::new(address, length)?))
}

/// Which networks hold which addresses: pairs of the indices or keys under which they are given.
fn contains_matches(arguments: &[Value]) -> anyhow::Result<Value> {
    let (networks, addresses) = (named(arguments, 0)?, named(arguments, 1)?);
    let pairs = networks.len().saturating_mul(addresses.len());
    anyhow::ensure!((pairs as u128) <= MOST, "more than {MOST} pairs");
    let mut found = BTreeSet::new();
    for (name, network) in &networks {
        for (other, address) in &addresses {
            if network.contains(address) {
                found.insert(Value::from(vec![name.clone(), other.clone()]));
            }
        }
    }
    Ok(Value::from(found))
}

/// Networks, each with the name it has in the answer.
fn named(arguments: &[Value], at: usize) -> anyhow::Result<Vec<(Value, IpNet)>> {
    let named = |name: Value, item: &Value| {
        let text = match item {
            Value::String(text) => text,
            // A list begins with it, and may say more.
            Value::Array(items) => match items.first() {
                Some(Value::String(text)) => text,
                _ => anyhow::bail!("a list must begin with a network"),
            },
            _ => anyhow::bail!("a network must be a string"),
        };
        let single = || text.parse::<IpAddr>().map(IpNet::from);
        let network = network(text).or_else(|error| single().map_err(|_| error))?;
        Ok((name, network))
    };
    match arguments.get(at) {
        Some(item @ Value::String(_)) => Ok(vec![named(item.clone(), item)?]),
        Some(Value::Array(items)) => {
            let items = items.iter().enumerate();
            items
                .map(|(at, item)| named(Value::from(at), item))
                .collect()
        }
        Some(Value::Set(items)) => items.iter().map(|item| named(item.clone(), item)).collect(),
        Some(Value::Object(items)) => items
            .iter()
            .map(|(key, item)| named(key.clone(), item))
            .collect(),
        _ => anyhow::bail!("argument {} must be a network, or hold networks", at + 1),
    }
}

fn expand(arguments: &[Value]) -> anyhow::Result<Value> {
    let network = network(text(arguments, 0)?)?;
    let bits = u32::from(network.max_prefix_len() - network.prefix_len());
    let count = 1_u128.checked_shl(bits).unwrap_or(u128::MAX);
    anyhow::ensure!(count <= MOST, "more than {MOST} addresses");
    let first = network.network();
    let nth = |number: u128| match first {
        IpAddr::V4(first) => {
            let number = u32::try_from(number).unwrap_or_default();
            IpAddr::from((u32::from(first) | number).to_be_bytes())
        }
        IpAddr::V6(first) => IpAddr::from((u128::from(first) | number).to_be_bytes()),
    };
    let addresses = (0..count).map(|number| Value::from(nth(number).to_string()));
    Ok(Value::from(addresses.collect::<BTreeSet<_>>()))
}

/// What an array or a set holds.
fn items(arguments: &[Value], at: usize) -> anyhow::Result<Vec<&Value>> {
    match arguments.get(at) {
        Some(Value::Array(items)) => Ok(items.iter().collect()),
        Some(Value::Set(items)) => Ok(items.iter().collect()),
        _ => anyhow::bail!("argument {} must be an array or a set", at + 1),
    }
}
