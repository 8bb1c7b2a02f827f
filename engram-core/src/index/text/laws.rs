//! What holds of the text index, over random texts from seeds.

use std::collections::{BTreeMap, BTreeSet};

use super::bm25::{B, K1, KNOWN_TEXTS, SELDOM};
use super::search::MANY;
use super::{Query, Texts};
use crate::index::bits::Bits;
use crate::index::mix::split_mix;
use crate::index::top::Scored;
use crate::index::words::{each, stem};

/// Chance from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u32) -> u32 {
        u32::try_from(split_mix(&mut self.0) % u64::from(bound)).unwrap()
    }

    /// A word: low ones are common, and some have endings.
    fn word(&mut self, words: u32) -> String {
        let word = self.below(words).min(self.below(words)).min(self.below(words));
        let ending = ["", "", "", "s", "ing"][self.below(5) as usize];
        let letter = |n: u32| char::from(b'a' + u8::try_from(n % 20).unwrap());
        format!("b{}{}ot{ending}", letter(word), letter(word / 20))
    }

    fn text(&mut self, words: u32, length: u32) -> String {
        let length = self.below(length);
        (0..length).map(|_| self.word(words)).collect::<Vec<_>>().join(" ")
    }
}

fn terms(text: &str) -> Vec<String> {
    let mut terms = Vec::new();
    each(text, |word, _| terms.push(stem(word).into_owned()));
    terms
}

/// The same by looking at everything: plain words, phrases of plain words, and prefixes.
#[derive(Default)]
struct Naive(BTreeMap<u32, Vec<String>>);

#[derive(Debug, Default)]
struct Asked {
    /// Each a set of terms that will do.
    words: Vec<String>,
    prefixes: Vec<String>,
    phrases: Vec<Vec<String>>,
}

impl Asked {
    fn random(dice: &mut Dice, words: u32) -> Self {
        let mut asked = Self::default();
        for _ in 0..dice.below(8) {
            asked.words.push(dice.word(words));
        }
        if dice.below(4) == 0 {
            // No ending of English begins as these end.
            let word = dice.word(words);
            asked.prefixes.push(word[..=dice.below(2) as usize].to_owned());
        }
        if dice.below(4) == 0 {
            let length = 1 + dice.below(3);
            asked.phrases.push((0..length).map(|_| dice.word(words)).collect());
        }
        asked
    }

    fn query(&self) -> Query {
        let phrases = self.phrases.iter().map(|phrase| format!("\"{}\"", phrase.join(" ")));
        let prefixes = self.prefixes.iter().map(|prefix| format!("{prefix}*"));
        let all: Vec<String> = self.words.iter().cloned().chain(prefixes).chain(phrases).collect();
        Query::parse(&all.join(" "))
    }
}

impl Naive {
    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    #[expect(clippy::cast_possible_truncation, reason = "a score")]
    fn search(&self, asked: &Asked, limit: usize, allowed: Option<&Bits>) -> Vec<Scored> {
        let all = self.0.len() as f64;
        let average = self.0.values().map(Vec::len).sum::<usize>() as f64 / all.max(1.0);
        let mut scores: BTreeMap<u32, f64> = BTreeMap::new();
        let phrased = asked.phrases.iter().flatten();
        let words = asked.words.iter().chain(phrased).map(|word| {
            let stem = stem(word).into_owned();
            Box::new(move |term: &str| term == stem) as Box<dyn Fn(&str) -> bool>
        });
        let prefixes = asked.prefixes.iter().map(|prefix| {
            Box::new(|term: &str| term.starts_with(prefix.as_str())) as Box<dyn Fn(&str) -> bool>
        });
        for fits in words.chain(prefixes) {
            let times = |text: &Vec<String>| text.iter().filter(|term| fits(term)).count();
            let having = self.0.values().filter(|text| times(text) > 0).count() as f64;
            // No word here is one that everybody says.
            let known = (having / all.max(1.0) - SELDOM).max(0.0);
            let (n, of) = (having + KNOWN_TEXTS * known, all + KNOWN_TEXTS);
            let idf = (1.0 + (of - n + 0.5) / (n + 0.5)).ln();
            for (&slot, text) in self.0.iter().filter(|(_, text)| times(text) > 0) {
                let times = times(text).min(255) as f64;
                let (k1, b) = (f64::from(K1), f64::from(B));
                let norm = k1 * (1.0 - b + b * text.len() as f64 / average);
                *scores.entry(slot).or_default() += idf * times / (times + norm);
            }
        }
        let quoted: Vec<Vec<String>> =
            asked.phrases.iter().map(|phrase| terms(&phrase.join(" "))).collect();
        let stands = |text: &[String], phrase: &[String]| {
            text.windows(phrase.len()).any(|part| part == phrase)
        };
        scores.retain(|slot, _| {
            quoted.iter().all(|phrase| stands(&self.0[slot], phrase))
                && allowed.is_none_or(|bits| bits.contains(*slot))
        });
        let mut best: Vec<Scored> =
            scores.iter().map(|(&slot, &score)| Scored { score: score as f32, slot }).collect();
        best.sort_by(|one, other| other.cmp(one));
        best.truncate(limit);
        best
    }
}

/// Equal up to rounding: where two scores are that near, either may be first.
#[track_caller]
fn check_same(found: &[Scored], naive: &[Scored], all: &[Scored], context: &str) {
    assert_eq!(found.len(), naive.len(), "{context}");
    let score: BTreeMap<u32, f32> = all.iter().map(|one| (one.slot, one.score)).collect();
    for (one, other) in found.iter().zip(naive) {
        assert!((one.score - other.score).abs() < 1e-4, "{context}: {one:?}, {other:?}");
        let own = score.get(&one.slot).unwrap_or_else(|| panic!("{context}: {one:?}"));
        assert!((one.score - own).abs() < 1e-4, "{context}: {one:?}, {own}");
    }
    assert!(found.windows(2).all(|pair| pair[0] > pair[1]), "{context}");
}

#[test]
fn search_finds_what_looking_at_everything_finds() {
    for seed in 0..24 {
        let mut dice = Dice(seed);
        let (slots, words) = (1 + dice.below(3_000), 1 + dice.below(300));
        let length = 1 + dice.below(20);
        let (mut index, mut naive) = (Texts::new(), Naive::default());
        for _ in 0..4 {
            for _ in 0..=dice.below(slots) {
                let slot = dice.below(slots);
                if dice.below(3) == 0 {
                    assert_eq!(index.remove(slot), naive.0.remove(&slot).is_some());
                } else {
                    let text = dice.text(words, length);
                    index.set(slot, &text);
                    naive.0.insert(slot, terms(&text));
                }
            }
            assert_eq!(index.len(), naive.0.len());
            for _ in 0..8 {
                let asked = Asked::random(&mut dice, words);
                let part = 1 + dice.below(50);
                let bits: Bits = (0..slots).filter(|_| dice.below(part) == 0).collect();
                let limit = dice.below(30) as usize;
                for allowed in [None, Some(&bits)] {
                    let context = format!("seed {seed}, {asked:?}, one of {part}, {limit}");
                    let found = index.search(&asked.query(), limit, allowed);
                    let all = naive.search(&asked, usize::MAX, allowed);
                    check_same(&found, &all[..limit.min(all.len())], &all, &context);
                }
            }
        }
    }
}

#[test]
fn equal_texts_score_equally_and_fall_to_the_lower_slot() {
    let mut dice = Dice(7);
    let mut index = Texts::new();
    for slot in 0..20_000 {
        let text = if slot % 97 == 5 { "bfaot bgaot baaot".to_owned() } else { dice.text(200, 12) };
        index.set(slot, &text);
    }
    let found = index.search(&Query::parse("bfaot baaot bgaot bzaot"), 20, None);
    let twins: Vec<u32> = found.iter().map(|one| one.slot).filter(|slot| slot % 97 == 5).collect();
    assert!(twins.len() > 5, "{found:?}");
    assert_eq!(twins, (0..).map(|n| 5 + 97 * n).take(twins.len()).collect::<Vec<_>>());
}

#[test]
fn what_everybody_says_is_looked_for_only_where_nothing_else_is_asked() {
    let mut index = Texts::new();
    let texts = u32::try_from(MANY).unwrap() + 2;
    for slot in 0..texts {
        index.set(slot, if slot == 7 { "the zebra" } else { "the horse said so" });
    }
    assert_eq!(slots(&index, "the zebra"), [7]);
    assert_eq!(slots(&index, "\"the zebra\""), [7]);
    let phrase = "\"the horse\" zebra";
    assert_eq!(
        index.search(&Query::parse(phrase), 3, None).len(),
        3,
        "what is quoted is looked for"
    );
    let whole = |text| index.whole(&Query::parse(text)).to_bits();
    assert_eq!(whole("the zebra"), whole("zebra"));
    assert_eq!(index.search(&Query::parse("the"), 3, None).len(), 3);
    assert_eq!(index.search(&Query::parse("the unicorn"), 3, None).len(), 3, "nobody says unicorn");
}

#[test]
fn a_removed_text_leaves_nothing_behind() {
    for seed in 0..8 {
        let mut dice = Dice(seed);
        let texts: Vec<String> = (0..4_000).map(|_| dice.text(400, 12)).collect();
        let kept = 1 + dice.below(20);
        let mut order: Vec<u32> = (0..4_000).collect();
        for at in (1..4_000).rev() {
            order.swap(at as usize, dice.below(at + 1) as usize);
        }
        let (mut index, mut fresh) = (Texts::new(), Texts::new());
        for &slot in &order {
            index.set(slot, &format!("{} unique{slot}", texts[slot as usize]));
        }
        let full = index.bytes();
        for &slot in order.iter().filter(|slot| *slot % kept != 0) {
            assert!(index.remove(slot) && !index.remove(slot));
        }
        for slot in (0..4_000).filter(|slot| slot % kept == 0) {
            fresh.set(slot, &format!("{} unique{slot}", texts[slot as usize]));
        }
        let words = |texts: &Texts| texts.dictionary.keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(words(&index), words(&fresh));
        assert_eq!((index.len(), index.total), (fresh.len(), fresh.total));
        for (term, id) in &fresh.dictionary {
            let list = |texts: &Texts, id: u32| {
                texts.terms[id as usize].as_ref().unwrap().postings.iter().collect::<Vec<_>>()
            };
            assert_eq!(list(&index, index.dictionary[term]), list(&fresh, *id));
        }
        // Ids and slots that nobody has are eight bytes each, until the last ones go.
        let spare =
            8 * index.terms.capacity() + 20 * index.encoded.capacity() + 4 * index.free.capacity();
        let (left, anew) = (index.bytes(), fresh.bytes());
        assert!(left < anew * 3 / 2 + spare, "seed {seed}: {full}, then {left}, anew {anew}");
        for slot in 0..4_000 {
            index.remove(slot);
        }
        assert!(index.is_empty() && index.terms() == 0);
        assert!(index.bytes() < 20_000, "seed {seed}: {} of {full} bytes", index.bytes());
    }
}

#[test]
fn a_text_is_found_at_once_and_gone_at_once() {
    let mut index = Texts::new();
    let zebra = Query::parse("zebra");
    index.set(3, "The zebra crosses");
    assert_eq!(slots(&index, "zebras"), [3]);
    index.set(3, "Nobody crosses");
    assert!(index.search(&zebra, 9, None).is_empty());
    index.set(8, "zebra");
    assert!(index.remove(8) && index.search(&zebra, 9, None).is_empty());
    assert_eq!((index.len(), index.terms(), index.is_empty()), (1, 2, false));
}

fn index(texts: &[&str]) -> Texts {
    let mut index = Texts::new();
    for (slot, text) in (0..).zip(texts) {
        index.set(slot, text);
    }
    index
}

/// Who is found, in order of slots.
fn slots(index: &Texts, query: &str) -> Vec<u32> {
    let found = index.search(&Query::parse(query), 100, None);
    found.iter().map(|one| one.slot).collect::<BTreeSet<_>>().into_iter().collect()
}

#[test]
fn a_phrase_is_found_only_where_its_words_stand_together() {
    let index = index(&[
        "a cheap hotel by the sea",
        "the hotel was cheap",
        "cheap hotels everywhere",
        "cheap, clean hotel",
        "cheap hotel's pool, then a cheap hotel bar",
        "CHEAP-HOTEL",
    ]);
    assert_eq!(slots(&index, "\"cheap hotel\""), [0, 2, 4, 5]);
    assert_eq!(slots(&index, "\"hotel cheap\""), [4_u32; 0]);
    assert_eq!(slots(&index, "\"cheap hotel bar\""), [4]);
    assert_eq!(slots(&index, "\"cheap hotel\" sea"), [0, 2, 4, 5]);
    assert_eq!(slots(&index, "\"cheap hotel\" \"the sea\""), [0]);
    assert_eq!(slots(&index, "\"cheap hot*\" \"b*\""), [0, 4]);
    assert_eq!(slots(&index, "\"cheap unicorn\""), [4_u32; 0]);
    assert_eq!(slots(&index, "\"cheap hotel"), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn a_prefix_finds_every_word_that_begins_so() {
    let index =
        index(&["hotels", "hot", "photo", "running late", "she ran", "experience", "Hôtel"]);
    assert_eq!(slots(&index, "hot*"), [0, 1, 6]);
    assert_eq!(slots(&index, "hotels*"), [0, 6]);
    assert_eq!(slots(&index, "runni*"), [3]);
    assert_eq!(slots(&index, "ru*"), [3]);
    assert_eq!(slots(&index, "experien*"), [5]);
    assert_eq!(slots(&index, "zz*"), [4_u32; 0]);
}

#[test]
fn texts_of_any_script_are_found_by_their_words() {
    let texts = [
        "我昨天在北京吃了烤鸭",
        "東京タワーに行きました",
        "ذهبت إلى المكتبة مع أحمد",
        "Le café était très bon à Orléans",
        "Мы читали интересные книги вечером",
        "party tonight 🎉👍🏽",
        "ผมชอบกินข้าวผัด",
        "학교에서 친구를 만났다",
        "मुझे हिन्दी पसंद है",
        "Η οδός είναι μακριά",
    ];
    let index = index(&texts);
    for (query, slot) in [
        ("北京", 0),
        ("鸭", 0),
        ("我", 0),
        ("タワー", 1),
        ("京タ", 1),
        ("مكتبة", 2),
        ("احمد", 2),
        ("CAFE", 3),
        ("orleans", 3),
        ("книга", 4),
        ("🎉", 5),
        ("👍", 5),
        ("ข้าว", 6),
        ("학교", 7),
        ("हिन्दी", 8),
        ("ΟΔΟΣ", 9),
        ("\"北京吃\"", 0),
        ("\"東京タワー\"", 1),
    ] {
        assert_eq!(slots(&index, query), [slot], "{query}");
    }
    for (slot, text) in (0..).zip(texts) {
        let found = index.search(&Query::parse(&format!("\"{text}\"")), 1, None);
        assert_eq!(found.first().map(|one| one.slot), Some(slot), "{text}");
    }
}

#[test]
fn a_filter_never_starves_an_answer() {
    let mut dice = Dice(3);
    let mut index = Texts::new();
    for slot in 0..10_000 {
        let text = if slot == 9_999 {
            "bcaot and nothing else of all that is asked".to_owned()
        } else {
            dice.text(30, 12)
        };
        index.set(slot, &text);
    }
    let query = Query::parse("baaot bbaot bcaot bdaot beaot");
    for allowed in [vec![9_999], vec![9_999, 20_000], (9_000..10_000).collect()] {
        let allowed: Bits = allowed.into_iter().collect();
        let found = index.search(&query, 2_000, Some(&allowed));
        assert!(found.iter().any(|one| one.slot == 9_999), "{}", found.len());
        assert!(found.iter().all(|one| allowed.contains(one.slot)));
    }
    assert!(index.search(&query, 10, Some(&Bits::default())).is_empty());
}

#[test]
fn hostile_texts_are_only_texts() {
    let mib = 1 << 20;
    let mut dice = Dice(11);
    let random: String =
        (0..mib / 4).filter_map(|_| char::from_u32(dice.below(0x11_0000))).collect();
    let long: [String; 10] = [
        "a".repeat(mib),
        "a ".repeat(mib / 2),
        "e\u{301}\u{316}".repeat(mib / 5),
        "\u{301}".repeat(mib / 2),
        "\u{200d}\u{200b}".repeat(mib / 6),
        "\u{0}\u{7}\u{1b}".repeat(mib / 3),
        "猫".repeat(mib / 3),
        "\u{fdfa}".repeat(mib / 30),
        "''..,,1.1.1'".repeat(mib / 12),
        random,
    ];
    let mut index = Texts::new();
    for (slot, text) in (0..).zip(&long) {
        index.set(slot, text);
        let mut query = text.clone();
        query.extend(['"', '*', '"']);
        let _ = index.search(&Query::parse(&query), 3, None).len();
        let _ = index.search(&Query::parse(&format!("\"{text}\"")), 3, None).len();
    }
    assert_eq!(slots(&index, "\"a a a\""), [1]);
    for slot in (0..).take(long.len()) {
        assert!(index.remove(slot));
    }
    assert_eq!(index.terms(), 0);
}

#[test]
fn short_hostile_texts_and_queries_never_panic() {
    let pool: Vec<char> = "aZ9 '\".,*-éи\u{306}ё\u{301}\u{3099}か猫한\u{1112}\u{1161}كا\u{64b}ﷺß🎉\u{1f3fd}🇫\u{200d}\u{0}\u{e35}ي"
        .chars()
        .collect();
    let mut dice = Dice(5);
    let mut index = Texts::new();
    for round in 0..20_000 {
        let mut text = |length| -> String {
            (0..length)
                .map(|_| pool[dice.below(u32::try_from(pool.len()).unwrap()) as usize])
                .collect()
        };
        let (text, query) = (text(12), text(6));
        index.set(round % 50, &text);
        let _ = index.search(&Query::parse(&query), 3, None).len();
        assert_eq!(terms(&text), terms(&text.clone()));
    }
}

#[test]
fn the_same_changes_give_the_same_index() {
    let build = || {
        let mut dice = Dice(9);
        let mut index = Texts::new();
        for _ in 0..5_000 {
            let slot = dice.below(1_000);
            if dice.below(3) == 0 {
                index.remove(slot);
            } else {
                index.set(slot, &dice.text(300, 12));
            }
        }
        index
    };
    let (one, other) = (build(), build());
    assert_eq!((one.bytes(), one.terms()), (other.bytes(), other.terms()));
    let mut dice = Dice(10);
    for _ in 0..100 {
        let query = Asked::random(&mut dice, 300).query();
        assert_eq!(one.search(&query, 10, None), other.search(&query, 10, None));
    }
}
