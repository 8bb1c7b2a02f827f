//! What an embeddings endpoint answers: JSON → vectors, in the order of the texts.

use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Answer {
    data: Vec<Item>,
}

#[derive(Debug, Deserialize)]
struct Item {
    embedding: Vec<f32>,
    /// Whose it is; where it is left out, they come in the order of the texts.
    #[serde(default)]
    index: Option<usize>,
}

/// What may stand in an answer that is none.
#[derive(Debug, Default, Deserialize)]
struct Problem {
    #[serde(default)]
    error: Option<Told>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    detail: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Told {
    Object { message: String },
    Text(String),
}

/// Longest that an endpoint's own words are passed on, in characters.
const WORDS_MAX: usize = 200;

/// The vectors of an answer to so many texts.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn parse(bytes: &[u8], texts: usize) -> Result<Vec<Option<Vec<f32>>>, String> {
    let Answer { data } =
        serde_json::from_slice(bytes).map_err(|e| format!("its answer is none: {e}"))?;
    if data.len() != texts {
        return Err(format!("it gave {} vectors for {texts} texts", data.len()));
    }
    let mut vectors = vec![None; texts];
    for (place, Item { embedding, index }) in data.into_iter().enumerate() {
        let index = index.unwrap_or(place);
        let slot = vectors.get_mut(index).ok_or_else(|| {
            format!("it gave a vector of index {index}, and the last text has {}", texts - 1)
        })?;
        if slot.replace(embedding).is_some() {
            return Err(format!("it gave two vectors of index {index}"));
        }
    }
    Ok(vectors)
}

/// What an endpoint says is wrong, shortened; empty where it says nothing.
pub(super) fn words(bytes: &[u8]) -> String {
    let Problem { error, message, detail } = serde_json::from_slice(bytes).unwrap_or_default();
    let error = error.map(|told| match told {
        Told::Object { message } | Told::Text(message) => message,
    });
    let text = error.or(message).or(detail).unwrap_or_default();
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(WORDS_MAX).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_come_in_the_order_of_their_texts() {
        let answer = br#"{"object": "list", "model": "m", "data": [
            {"object": "embedding", "index": 1, "embedding": [3, 4e0]},
            {"index": 0, "embedding": [1.5, -2]}]}"#;
        let vectors = parse(answer, 2).unwrap();
        assert_eq!(vectors, [Some(vec![1.5, -2.0]), Some(vec![3.0, 4.0])]);
        let unnumbered = br#"{"data": [{"embedding": [1]}, {"embedding": [2]}]}"#;
        assert_eq!(parse(unnumbered, 2).unwrap(), [Some(vec![1.0]), Some(vec![2.0])]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (answer, said) in [
            (&b"<html>"[..], "its answer is none"),
            (br#"{"data": []}"#, "0 vectors for 2 texts"),
            (br#"{"data": [{"embedding": [1]}]}"#, "1 vectors for 2 texts"),
            (br#"{"data": [{"embedding": [1]}, {"index": 0, "embedding": [1]}]}"#, "two vectors"),
            (br#"{"data": [{"embedding": [1]}, {"index": 9, "embedding": [1]}]}"#, "index 9"),
            (br#"{"data": [{"embedding": [1]}, {"embedding": [null]}]}"#, "invalid type: null"),
            (br#"{"data": [{"embedding": [1]}, {"embedding": [NaN]}]}"#, "its answer is none"),
            (br#"{"data": [{"embedding": [1]}, {"embedding": "AACA"}]}"#, "invalid type: string"),
        ] {
            let refused = parse(answer, 2).unwrap_err();
            assert!(refused.contains(said), "{refused}");
        }
    }

    #[test]
    fn an_endpoints_words_are_passed_on_in_part() {
        assert_eq!(words(br#"{"error": {"message": "too\nlong", "type": "x"}}"#), "too long");
        assert_eq!(words(br#"{"error": "model not found"}"#), "model not found");
        assert_eq!(words(br#"{"message": "m"}"#), "m");
        assert_eq!(words(b"<html>"), "");
        let long = format!(r#"{{"detail": "{}"}}"#, "x".repeat(1_000));
        assert_eq!(words(long.as_bytes()).len(), WORDS_MAX);
    }
}
