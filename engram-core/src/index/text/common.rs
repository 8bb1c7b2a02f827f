//! The words that English is made of, and how often people say them.
//!
//! In a small memory nobody may have said `when` or `does`, so what it holds alone takes them for
//! rare and weighs them like names: questions then find whoever else asked something. Here stands
//! what every listener knows beforehand: of ten thousand messages of the chat corpus, how many hold
//! the word, by its stem. The function words of English are here, and what else at least fifty
//! messages hold, without the words that only say what that corpus is about (`common_words` in
//! engram-bench counts them). Other languages have their words weighed by the space alone.

use std::collections::HashMap;
use std::sync::LazyLock;

const LINES: &str = include_str!("common.txt");
const OF: f32 = 10_000.0;

static SHARES: LazyLock<HashMap<&str, f32>> = LazyLock::new(|| {
    let line = |line: &'static str| {
        let (stem, count) = line.split_once(' ')?;
        Some((stem, count.parse::<f32>().ok()? / OF))
    };
    LINES.lines().filter_map(line).collect()
});

/// The share of what people say that holds a stem; 0 for one that is not here.
pub(super) fn share(stem: &str) -> f32 {
    SHARES.get(stem).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::words;

    #[test]
    fn every_line_is_a_stem_and_a_share() {
        assert_eq!(SHARES.len(), LINES.lines().count());
        assert!(LINES.lines().is_sorted_by_key(|line| line.split(' ').next()));
        assert!(SHARES.values().all(|&share| share > 0.0 && share < 0.5));
        for word in ["the", "does", "because", "whose", "really"] {
            assert!(share(&words::stem(word)) > 0.0, "{word}");
        }
        assert!(share("hotel") <= 0.0 && share("") <= 0.0);
    }
}
