//! A group of members with their loads, for the tests of every algorithm.

use evenkeel_balance::{Algorithm, HashOn, Loads, Member};
use proptest::prelude::*;

/// The loads of the members, by index.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) open: Vec<u32>,
    pub(crate) latency: Vec<f64>,
    pub(crate) full: Vec<bool>,
}

impl Group {
    pub(crate) fn idle(count: usize) -> Group {
        Group::with_open(&vec![0; count])
    }

    pub(crate) fn with_open(open: &[u32]) -> Group {
        let count = open.len();
        Group { open: open.to_vec(), latency: vec![0.0; count], full: vec![false; count] }
    }
}

impl Loads for Group {
    fn open(&self, index: u32) -> u32 {
        self.open[index as usize]
    }

    fn latency(&self, index: u32) -> f64 {
        self.latency[index as usize]
    }

    fn has_room(&self, index: u32) -> bool {
        !self.full[index as usize]
    }
}

pub(crate) fn members(weights: &[u32]) -> Vec<Member> {
    let member = |(index, &weight): (usize, &u32)| Member {
        index: index as u32,
        name: format!("10.0.{}.{}:8080", index / 256, index % 256),
        weight,
    };
    weights.iter().enumerate().map(member).collect()
}

pub(crate) fn every_algorithm() -> Vec<Algorithm> {
    let mut all = vec![
        Algorithm::RoundRobin,
        Algorithm::Random,
        Algorithm::LeastConnections,
        Algorithm::PowerOfTwo,
        Algorithm::LeastLatency,
        Algorithm::First,
    ];
    for on in [HashOn::Maglev, HashOn::Ring, HashOn::Rendezvous] {
        for bounded_load in [None, Some(1.25)] {
            all.push(Algorithm::Hash { on, bounded_load });
        }
    }
    all
}

/// Up to ten members of any weight, some of them full, with any loads.
pub(crate) fn any() -> impl Strategy<Value = (Vec<u32>, Group)> {
    let weight = prop_oneof![0u32..20, Just(u32::MAX)];
    let latency = prop_oneof![0f64..2.0, Just(f64::NAN), Just(f64::INFINITY), Just(-1.0)];
    let one = (weight, prop_oneof![0u32..30, Just(u32::MAX)], latency, any_full());
    proptest::collection::vec(one, 0..10).prop_map(|members| {
        let group = Group {
            open: members.iter().map(|member| member.1).collect(),
            latency: members.iter().map(|member| member.2).collect(),
            full: members.iter().map(|member| member.3).collect(),
        };
        (members.iter().map(|member| member.0).collect(), group)
    })
}

fn any_full() -> impl Strategy<Value = bool> {
    proptest::bool::weighted(0.4)
}
