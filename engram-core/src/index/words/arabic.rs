//! The stems of Arabic: light10 of Larkey, Ballesteros and Connell, *Light Stemming for Arabic
//! Information Retrieval*, 2007, and the alef that a noun in the accusative ends in.
//!
//! Articles and a few endings go, roots are not looked for: so a noun has one stem with its article
//! and without it, in the plural of its endings and in the singular. Words come folded: without
//! harakat, with one kind of alef.

const AND: char = 'و';
const ARTICLES: [&str; 6] = ["وال", "بال", "كال", "فال", "ال", "لل"];
const ENDINGS: [&str; 11] = ["ها", "ان", "ات", "ون", "ين", "يه", "ية", "ه", "ة", "ي", "ا"];

/// A word without its article and endings.
pub(super) fn stem(word: &str) -> &str {
    let mut stem = without_article(word);
    for ending in ENDINGS {
        stem = stem.strip_suffix(ending).filter(|rest| has_letters(rest, 2)).unwrap_or(stem);
    }
    stem
}

/// A word, or the beginning of one, without the article that it begins with.
pub(super) fn without_article(word: &str) -> &str {
    let article = ARTICLES.iter().find_map(|article| word.strip_prefix(article));
    if let Some(rest) = article.filter(|rest| has_letters(rest, 2)) {
        return rest;
    }
    word.strip_prefix(AND).filter(|rest| has_letters(rest, 3)).unwrap_or(word)
}

fn has_letters(word: &str, least: usize) -> bool {
    word.chars().nth(least - 1).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_noun_has_one_stem_with_its_article_and_its_endings_and_without_them() {
        for (one, other) in [
            ("الفندق", "فندق"),
            ("فندقا", "فندق"),
            ("والفندق", "بالفندق"),
            ("القطة", "قطه"),
            ("الجمعة", "الجمعه"),
            ("المكتبات", "مكتبة"),
            ("المهندسون", "مهندسين"),
            ("وكتاب", "كتابها"),
        ] {
            assert_eq!(stem(one), stem(other), "{one} and {other}");
        }
        for short in ["ال", "و", "ان", "يد", "لله"] {
            assert!(has_letters(stem(short), 1), "{short}");
        }
        assert_eq!(without_article("القاه"), "قاه");
        assert_eq!(without_article("ال"), "ال");
    }
}
