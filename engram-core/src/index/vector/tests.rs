//! The laws of the vector index.

use super::*;
use crate::index::mix::split_mix;

const DIMENSION: usize = 24;

/// Chance from a seed.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        split_mix(&mut self.0)
    }

    fn below(&mut self, end: u32) -> u32 {
        u32::try_from(self.next() % u64::from(end)).unwrap()
    }

    /// About normal, from -3 to 3.
    #[expect(clippy::cast_precision_loss, reason = "sixteen bits each")]
    fn normal(&mut self) -> f32 {
        (0..6).map(|_| (self.next() >> 48) as f32 / 65_536.0 - 0.5).sum()
    }

    /// One of forty clusters, and some way from its middle.
    fn vector(&mut self) -> Vec<f32> {
        let mut middle = Dice(u64::from(self.below(40)) << 32);
        (0..DIMENSION).map(|_| middle.normal() + 0.4 * self.normal()).collect()
    }
}

fn link_all(vectors: &mut Vectors) {
    let slots: Vec<u32> = vectors.unlinked().collect();
    for slot in slots {
        let links = vectors.plan(slot).expect("not in the graph");
        assert!(vectors.link(&links), "a fresh plan holds");
    }
}

/// So many vectors, all in the graph, which is walked however few they are.
fn walked(count: u32) -> (Vectors, Dice) {
    let (mut vectors, mut dice) = (Vectors::new(DIMENSION).with_scan_max(0), Dice(7));
    for slot in 0..count {
        vectors.set(slot, &dice.vector());
    }
    link_all(&mut vectors);
    (vectors, dice)
}

fn slots(found: &[Scored]) -> Vec<u32> {
    found.iter().map(|one| one.slot).collect()
}

fn saved(vectors: &Vectors) -> Vec<u8> {
    let mut bytes = Vec::new();
    let kept: Result<(), ()> = vectors.save(|piece| {
        bytes.extend(piece);
        Ok(())
    });
    kept.unwrap();
    bytes
}

/// Of the ten nearest by a scan, the share that a walk finds.
#[expect(clippy::cast_precision_loss, reason = "a few thousand")]
fn recall(vectors: &Vectors, dice: &mut Dice) -> f64 {
    let (mut found, mut all) = (0, 0);
    for _ in 0..100 {
        let query = dice.vector();
        let near = slots(&vectors.nearest(&query, 10, BREADTH, None));
        let truth = slots(&vectors.exact(&query, 10, None));
        found += truth.iter().filter(|slot| near.contains(slot)).count();
        all += truth.len();
    }
    found as f64 / all as f64
}

fn unit(vector: &[f32]) -> Vec<f32> {
    let norm = vector.iter().map(|one| one * one).sum::<f32>().sqrt();
    vector.iter().map(|one| one / norm).collect()
}

#[test]
fn a_scan_is_as_exact_as_eight_bits_are() {
    let (mut vectors, mut dice) = (Vectors::new(DIMENSION), Dice(1));
    let all: Vec<Vec<f32>> = (0..500).map(|_| dice.vector()).collect();
    for (slot, vector) in (0..).zip(&all) {
        vectors.set(slot, vector);
    }
    let query = dice.vector();
    let found = vectors.exact(&query, 1000, None);
    assert_eq!(found.len(), 500);
    assert!(found.is_sorted_by(|a, b| a > b));
    for one in found {
        let (a, b) = (unit(&query), unit(&all[one.slot as usize]));
        let cosine: f32 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
        // Each code is off by half a step at most; a step is the largest component over 127.
        let step = b.iter().fold(0.0, |most: f32, one| most.max(one.abs())) / 127.0;
        let bound = 0.5 * step * a.iter().map(|one| one.abs()).sum::<f32>() + 1e-4;
        assert!((cosine - one.score).abs() <= bound, "{cosine} {} {bound}", one.score);
    }
}

/// So many that a scan goes by their sketches.
fn sketched(count: u32) -> (Vectors, Dice) {
    let (mut vectors, mut dice) = (Vectors::new(DIMENSION), Dice(3));
    for slot in 0..count {
        vectors.set(slot, &dice.vector());
    }
    assert_eq!(vectors.way(10, BREADTH, None), Way::Sketch);
    (vectors, dice)
}

#[test]
fn a_scan_by_sketches_finds_what_an_exact_one_finds() {
    let (vectors, mut dice) = sketched(20_000);
    let recall = recall(&vectors, &mut dice);
    assert!(recall >= 0.99, "{recall}");
    let again = Vectors::load(&saved(&vectors)).unwrap();
    for _ in 0..20 {
        let query = dice.vector();
        let found = vectors.nearest(&query, 100, BREADTH, None);
        assert_eq!(again.nearest(&query, 100, BREADTH, None), found);
    }
}

#[test]
fn a_scan_by_sketches_never_starves_and_never_shows_what_is_gone() {
    let (mut vectors, mut dice) = sketched(20_000);
    for slot in (0..20_000).step_by(3) {
        assert!(vectors.remove(slot));
    }
    let allowed: Bits = (0..30_000).filter(|slot| slot % 2 == 0).collect();
    for (limit, allowed) in
        [(50, None), (50, Some(&allowed)), (13_000, None), (9_000, Some(&allowed))]
    {
        let found = vectors.nearest(&dice.vector(), limit, BREADTH, allowed);
        let may =
            |slot: u32| !slot.is_multiple_of(3) && allowed.is_none_or(|bits| bits.contains(slot));
        let there = (0..20_000).filter(|&slot| may(slot)).count();
        assert_eq!(found.len(), limit.min(there), "{limit}");
        assert!(found.iter().all(|one| may(one.slot)) && found.is_sorted_by(|a, b| a > b));
    }
}

#[test]
fn a_walk_finds_what_a_scan_finds() {
    let (vectors, mut dice) = walked(3000);
    let recall = recall(&vectors, &mut dice);
    assert!(recall >= 0.95, "{recall}");
}

#[test]
fn after_any_changes_recall_holds_and_what_was_removed_never_shows() {
    let (mut vectors, mut dice) = walked(1500);
    let mut gone = Bits::default();
    for step in 0..4000 {
        let slot = dice.below(2000);
        if dice.below(2) == 0 {
            let had = vectors.contains(slot);
            assert_eq!(vectors.remove(slot), had);
            gone.insert(slot);
        } else {
            vectors.set(slot, &dice.vector());
            gone.remove(slot);
        }
        if step % 16 == 0 {
            link_all(&mut vectors);
        }
        if step % 64 == 1 {
            let found = vectors.nearest(&dice.vector(), 50, BREADTH, None);
            assert!(found.len() == 50 && found.iter().all(|one| !gone.contains(one.slot)));
        }
    }
    link_all(&mut vectors);
    let recall = recall(&vectors, &mut dice);
    assert!(recall >= 0.95, "{recall}");
}

#[test]
fn a_removed_vector_leaves_no_bytes() {
    let (mut vectors, _) = walked(200);
    assert!(vectors.codes.saved(77).0.iter().any(|line| line.0 != [0; 64]));
    assert!(vectors.remove(77) && !vectors.remove(77) && !vectors.contains(77));
    let (codes, scale) = vectors.codes.saved(77);
    assert!(codes.iter().all(|line| line.0 == [0; 64]) && scale == 0.0);
    assert!(vectors.graph.row(77, 0).iter().all(|&link| link == graph::NONE));
}

#[test]
fn all_can_be_removed_and_come_again() {
    let (mut vectors, mut dice) = walked(300);
    for slot in 0..300 {
        assert!(vectors.remove(slot));
        assert!(vectors.nearest(&dice.vector(), 300, 1, None).len() == 299 - slot as usize);
    }
    assert!(vectors.is_empty() && vectors.graph.entry.is_none());
    vectors.set(5, &dice.vector());
    link_all(&mut vectors);
    assert_eq!(slots(&vectors.nearest(&dice.vector(), 10, BREADTH, None)), [5]);
}

#[test]
fn filters_never_starve_and_never_leak() {
    let (vectors, mut dice) = walked(2000);
    for rare in [1, 2, 3, 7, 40, 300, 1999] {
        let allowed: Bits = (0..5000).filter(|slot| slot % rare == 0).collect();
        let there = allowed.iter().filter(|&slot| vectors.contains(slot)).count();
        for limit in [0, 1, 10, 500] {
            let found = vectors.nearest(&dice.vector(), limit, 16, Some(&allowed));
            assert_eq!(found.len(), limit.min(there), "one of {rare}, limit {limit}");
            assert!(found.iter().all(|one| allowed.contains(one.slot)));
            assert!(found.is_sorted_by(|a, b| a > b));
        }
    }
    assert!(vectors.nearest(&dice.vector(), 5, 16, Some(&Bits::default())).is_empty());
}

#[test]
fn a_vector_is_found_before_it_is_in_the_graph() {
    let (mut vectors, mut dice) = walked(1000);
    let vector = dice.vector();
    vectors.set(1234, &vector);
    assert_eq!((vectors.unlinked_len(), vectors.unlinked().next()), (1, Some(1234)));
    assert_eq!(vectors.nearest(&vector, 1, 16, None)[0].slot, 1234);
    let others = Bits::below(1000);
    assert_ne!(vectors.nearest(&vector, 1, 16, Some(&others))[0].slot, 1234);
    // What was in the graph and is changed is found by what it is now.
    vectors.set(17, &vector);
    assert_eq!(slots(&vectors.nearest(&vector, 2, 16, None)), [17, 1234]);
}

#[test]
fn a_plan_that_came_too_late_is_refused_or_mended() {
    let (mut vectors, mut dice) = walked(500);
    vectors.set(500, &dice.vector());
    let stale = vectors.plan(500).unwrap();
    vectors.set(500, &dice.vector());
    assert!(!vectors.link(&stale), "the vector changed");
    let plan = vectors.plan(500).unwrap();
    vectors.remove(500);
    assert!(!vectors.link(&plan) && vectors.plan(500).is_none(), "the vector is gone");
    let vector = dice.vector();
    vectors.set(500, &vector);
    let plan = vectors.plan(500).unwrap();
    vectors.remove(vectors.nearest(&vector, 2, 64, None)[1].slot);
    assert!(vectors.link(&plan), "one neighbour left, others stayed");
    assert!(!vectors.link(&plan) && vectors.plan(500).is_none(), "it is in the graph");
    vectors.set(500, &vector);
    let plan = vectors.plan(500).unwrap();
    for slot in (0..400).filter(|&slot| slot != 3) {
        vectors.remove(slot);
    }
    let near = vectors.link(&plan);
    assert_eq!(near, vectors.unlinked_len() == 0);
}

#[test]
fn zeros_and_infinities_score_nothing_and_spoil_nothing() {
    let (mut vectors, mut dice) = walked(300);
    vectors.set(300, &[0.0; DIMENSION]);
    vectors.set(301, &[f32::NAN; DIMENSION]);
    vectors.set(302, &[f32::INFINITY; DIMENSION]);
    vectors.set(303, &[f32::MAX; DIMENSION]);
    vectors.set(304, &[f32::MIN_POSITIVE / 4.0; DIMENSION]);
    link_all(&mut vectors);
    let found = vectors.exact(&dice.vector(), 400, None);
    assert!(found.len() == 305 && found.iter().all(|one| one.score.abs() <= 1.01));
    assert!(found.iter().filter(|one| (300..303).contains(&one.slot)).all(|one| one.score == 0.0));
    let same = vectors.exact(&[1.0; DIMENSION], 2, None);
    assert!(slots(&same) == [303, 304] && same[0].score > 0.99, "{same:?}");
    assert_eq!(vectors.nearest(&[0.0; DIMENSION], 20, 64, None).len(), 20);
    assert!(recall(&vectors, &mut dice) >= 0.95);
}

#[test]
fn many_of_the_same_do_not_hide_the_others() {
    let (mut vectors, mut dice) = walked(500);
    let same = dice.vector();
    for slot in 500..1500 {
        vectors.set(slot, &same);
    }
    for slot in 1500..2000 {
        vectors.set(slot, &dice.vector());
    }
    link_all(&mut vectors);
    let found = (0..500).chain(1500..2000).filter(|&slot| {
        let codes = vectors.codes.saved(slot).0.iter().flat_map(|line| line.0);
        let query: Vec<f32> = codes.take(DIMENSION).map(f32::from).collect();
        vectors.nearest(&query, 1, BREADTH, None)[0].score > 0.99
    });
    let found = found.count();
    assert!(found >= 990, "{found} of 1000");
    let best = |vectors: &Vectors| vectors.nearest(&same, 999, BREADTH, None)[998].score;
    assert!(best(&vectors) > 0.99, "all of them are found");
    let one = Bits::below(1000).iter().filter(|slot| slot % 500 == 499).collect();
    assert_eq!(slots(&vectors.nearest(&same, 1, BREADTH, Some(&one))), [999]);
    // The one that stands for them goes, and the others find another.
    let node = *vectors.graph.twins.keys().next().expect("one stands for the others");
    let all = vectors.len();
    assert!(vectors.remove(node) && vectors.unlinked_len() > 900);
    assert!(best(&vectors) > 0.99);
    link_all(&mut vectors);
    let loaded = Vectors::load(&saved(&vectors)).unwrap().with_scan_max(0);
    for vectors in [&vectors, &loaded] {
        let found = vectors.nearest(&same, all, BREADTH, None);
        assert!(best(vectors) > 0.99 && found.len() == all - 1);
        assert!(found.iter().all(|one| one.slot != node));
    }
}

#[test]
fn the_same_changes_give_the_same_index() {
    let (a, _) = walked(700);
    let (b, _) = walked(700);
    assert_eq!(saved(&a), saved(&b));
}

#[test]
fn what_was_saved_answers_the_same() {
    let (mut vectors, mut dice) = walked(800);
    for slot in (0..800).step_by(5) {
        vectors.remove(slot);
    }
    vectors.set(5, &dice.vector());
    let bytes = saved(&vectors);
    let loaded = Vectors::load(&bytes).unwrap().with_scan_max(0);
    assert_eq!(saved(&loaded), bytes);
    assert_eq!(slots_unlinked(&loaded), [5]);
    for _ in 0..50 {
        let query = dice.vector();
        assert_eq!(loaded.nearest(&query, 20, 32, None), vectors.nearest(&query, 20, 32, None));
    }
    let empty = Vectors::load(&saved(&Vectors::new(3))).unwrap();
    assert!(empty.is_empty() && empty.dimension() == 3);
}

fn slots_unlinked(vectors: &Vectors) -> Vec<u32> {
    vectors.unlinked().collect()
}

#[test]
fn every_flipped_byte_and_every_cut_is_detected() {
    let (vectors, _) = walked(20);
    let bytes = saved(&vectors);
    for at in 0..bytes.len() {
        assert!(Vectors::load(&bytes[..at]).is_err(), "cut at {at}");
        for flip in [1, 0x80, 0xFF] {
            let mut bad = bytes.clone();
            bad[at] ^= flip;
            assert!(Vectors::load(&bad).is_err(), "{flip:#x} at {at}");
        }
    }
    let longer: Vec<u8> = bytes.iter().copied().chain([0]).collect();
    assert_eq!(Vectors::load(&longer).unwrap_err(), Damaged::Checksum);
}

#[test]
fn hostile_numbers_with_a_right_checksum_are_refused() {
    let bytes = saved(&walked(20).0);
    // Dimension, slots, vectors, nodes, twins, entry, and the first vector's slot.
    for at in [20, 24, 28, 32, 36, 40, 44] {
        for number in [0, 21, 1 << 20, u32::MAX - 1] {
            let mut bad = bytes.clone();
            bad[at..at + 4].copy_from_slice(&number.to_le_bytes());
            if bad == bytes {
                continue;
            }
            let end = bad.len() - 4;
            let crc = crate::storage::wal::frame::crc(&bad[..end]);
            bad[end..].copy_from_slice(&crc.to_le_bytes());
            match Vectors::load(&bad) {
                Err(found) => assert_eq!(found, Damaged::Contents, "{number} at {at}"),
                // An empty slot more, or another entry that is one.
                Ok(loaded) => assert_eq!(loaded.nearest(&[1.0; DIMENSION], 99, 9, None).len(), 20),
            }
        }
    }
}
