//! Which keys agents bring, so that those in use are known before they are taken away.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::{CallRecord, KeyNote};

/// How many keys are remembered; of more, those are forgotten that were not seen for longest.
const MOST_KEYS: usize = 4096;

/// How many agents, tools and places are told of one key.
const MOST_NAMES: usize = 64;

/// The keys that agents brought since the start, by fingerprint. It never held a key.
#[derive(Debug, Default)]
pub(crate) struct KeyBook(Mutex<Pages>);

#[derive(Debug, Default)]
struct Pages {
    keys: HashMap<String, Entry>,
    /// The fingerprints by when they were last seen.
    order: BTreeMap<u64, String>,
    next: u64,
    forgotten: u64,
}

#[derive(Debug)]
struct Entry {
    turn: u64,
    kind: &'static str,
    agents: BTreeSet<String>,
    tools: BTreeSet<String>,
    places: BTreeSet<String>,
    actions: BTreeSet<&'static str>,
    first_seen: Timestamp,
    last_seen: Timestamp,
    count: u64,
}

/// The keys that agents brought.
#[derive(Clone, Debug, Default)]
pub struct KeysSeen {
    /// Those last seen first.
    pub keys: Vec<KeyView>,
    /// How many more there were, which are forgotten.
    pub forgotten: u64,
}

/// A key that agents brought, told by fingerprint.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct KeyView {
    /// The first 16 hex digits of a keyed hash.
    pub fingerprint: String,
    /// Who issues such keys: `github`, `aws`, `unknown`.
    pub kind: String,
    /// Whether more than one agent brought it.
    pub reused: bool,
    /// The agents that brought it; at most 64, as of tools and places.
    pub agents: Vec<String>,
    /// The tools that they called with it.
    pub tools: Vec<String>,
    /// Where it was: `header:x-api-key`, `body:/token`.
    pub places: Vec<String>,
    /// What became of it: `stripped`, `refused`, `reported`.
    pub actions: Vec<String>,
    /// RFC 3339.
    pub first_seen: String,
    /// RFC 3339.
    pub last_seen: String,
    /// How often it was brought.
    pub count: u64,
}

impl KeyBook {
    /// Writes down the keys of a call.
    pub(crate) fn note(&self, record: &CallRecord) {
        if record.keys.is_empty() {
            return;
        }
        let mut pages = self.0.lock();
        for key in &record.keys {
            pages.note(key, record);
        }
    }

    /// All of them.
    pub(crate) fn seen(&self) -> KeysSeen {
        let pages = self.0.lock();
        let order = pages.order.values().rev();
        let keys = order.filter_map(|print| Some(pages.keys.get(print)?.view(print)));
        KeysSeen {
            keys: keys.collect(),
            forgotten: pages.forgotten,
        }
    }
}

impl Pages {
    fn note(&mut self, key: &KeyNote, record: &CallRecord) {
        let turn = self.next;
        self.next += 1;
        let print = &key.fingerprint;
        let entry = self.keys.entry(print.clone()).or_insert_with(|| Entry {
            turn,
            kind: key.kind,
            agents: BTreeSet::new(),
            tools: BTreeSet::new(),
            places: BTreeSet::new(),
            actions: BTreeSet::new(),
            first_seen: record.started,
            last_seen: record.started,
            count: 0,
        });
        self.order.remove(&entry.turn);
        self.order.insert(turn, print.clone());
        entry.turn = turn;
        entry.count += 1;
        entry.last_seen = entry.last_seen.max(record.started);
        entry.actions.insert(key.action);
        add(&mut entry.agents, record.agent.as_deref());
        add(&mut entry.tools, record.tool.as_deref());
        add(&mut entry.places, Some(&key.place));
        while self.keys.len() > MOST_KEYS
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.keys.remove(&oldest);
            self.forgotten += 1;
        }
    }
}

impl Entry {
    fn view(&self, print: &str) -> KeyView {
        let texts = |texts: &BTreeSet<String>| texts.iter().cloned().collect();
        KeyView {
            fingerprint: print.to_owned(),
            kind: self.kind.to_owned(),
            reused: self.agents.len() > 1,
            agents: texts(&self.agents),
            tools: texts(&self.tools),
            places: texts(&self.places),
            actions: self
                .actions
                .iter()
                .map(|action| (*action).to_owned())
                .collect(),
            first_seen: self.first_seen.to_string(),
            last_seen: self.last_seen.to_string(),
            count: self.count,
        }
    }
}

fn add(names: &mut BTreeSet<String>, name: Option<&str>) {
    if let Some(name) = name
        && names.len() < MOST_NAMES
        && !names.contains(name)
    {
        names.insert(name.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Trace;

    fn note(book: &KeyBook, agent: &str, print: &str) {
        let mut record = CallRecord::open(Trace::begin(), None);
        record.agent = Some(agent.into());
        record.tool = Some("notes".into());
        record.keys = vec![KeyNote {
            place: "header:x-api-key".into(),
            kind: "github",
            fingerprint: print.into(),
            action: "stripped",
        }];
        book.note(&record);
    }

    #[test]
    fn a_key_of_two_agents_is_reused() {
        let book = KeyBook::default();
        for (agent, print) in [("a", "1"), ("a", "1"), ("a", "2"), ("b", "1")] {
            note(&book, agent, print);
        }
        let seen = book.seen();
        let told: Vec<_> = seen
            .keys
            .iter()
            .map(|key| (&*key.fingerprint, key.reused, key.agents.len(), key.count))
            .collect();
        assert_eq!(told, [("1", true, 2, 3), ("2", false, 1, 1)]);
        assert_eq!(seen.keys[0].tools, ["notes"]);
        assert!(seen.keys[0].first_seen <= seen.keys[0].last_seen);
    }
    #[test]
    fn those_that_were_not_seen_for_longest_are_forgotten() {
        let book = KeyBook::default();
        note(&book, "a", "first");
        for print in 0..MOST_KEYS {
            note(&book, "a", &print.to_string());
            note(&book, "a", "first");
        }
        let seen = book.seen();
        assert_eq!((seen.keys.len(), seen.forgotten), (MOST_KEYS, 1));
        assert_eq!(seen.keys[0].fingerprint, "first");
        assert!(seen.keys.iter().all(|key| key.fingerprint != "0"));
    }
    #[test]
    fn the_names_of_one_key_are_bounded() {
        let book = KeyBook::default();
        for agent in 0..100 {
            note(&book, &agent.to_string(), "1");
        }
        assert_eq!(book.seen().keys[0].agents.len(), MOST_NAMES);
    }
}
