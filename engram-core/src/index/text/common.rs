//! The words that English questions are made of.
//!
//! In a small memory nobody says `when` or `does`, so BM25 takes them for rare and weighs them like
//! names: questions then find whoever else asked something. Texts are indexed with all their words;
//! only a query that has others leaves these out. The list is that of the function words of
//! English: articles, pronouns, auxiliary verbs, prepositions, conjunctions, question words.
//! Other languages have their words weighed by BM25 alone.

/// Sorted.
const COMMON: [&str; 127] = [
    "a", "about", "after", "again", "against", "all", "am", "an", "and", "any", "are", "as", "at",
    "be", "because", "been", "before", "being", "between", "both", "but", "by", "can", "could",
    "d", "did", "do", "does", "doing", "don", "down", "during", "each", "few", "for", "from",
    "had", "has", "have", "having", "he", "her", "hers", "him", "his", "how", "i", "if", "in",
    "into", "is", "it", "its", "just", "ll", "m", "many", "may", "me", "might", "more", "most",
    "much", "must", "my", "no", "nor", "not", "of", "off", "on", "once", "only", "or", "other",
    "our", "out", "over", "own", "re", "s", "same", "shall", "she", "should", "so", "some", "such",
    "t", "than", "that", "the", "their", "them", "then", "there", "these", "they", "this", "those",
    "through", "to", "too", "under", "until", "up", "upon", "ve", "very", "was", "we", "were",
    "what", "when", "where", "which", "while", "who", "whom", "whose", "why", "will", "with",
    "would", "you", "your", "yours",
];

/// Whether a folded word is one of them.
pub(super) fn is_common(word: &str) -> bool {
    COMMON.binary_search(&word).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_so_that_it_can_be_searched() {
        assert!(COMMON.is_sorted());
        assert!(is_common("the") && is_common("yours") && is_common("a") && !is_common("hotel"));
    }
}
