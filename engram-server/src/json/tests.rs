//! Laws of episodes in JSON, and a table of bad input.

use engram_core::{Draft, Episode, Error, StoredEpisode, Timestamp};
use proptest::prelude::*;

use super::*;

fn stored(draft: Draft) -> StoredEpisode {
    let now: Timestamp = "2026-01-31T12:00:00.123456789Z".parse().unwrap();
    let episode = draft.check(now, || "made".into()).unwrap();
    StoredEpisode { space: "s".into(), lsn: 7, recorded_at: now, episode }
}

fn printed(stored: &StoredEpisode, form: EmbeddingForm) -> String {
    let mut out = Vec::new();
    write_episode(&mut out, stored, form);
    String::from_utf8(out).unwrap()
}

/// The draft that would make this episode again.
fn draft_of(episode: Episode) -> Draft {
    Draft {
        id: Some(episode.id),
        what: episode.what,
        when: Some(episode.when),
        place: episode.place,
        who: episode.who,
        embedding: episode.embedding,
        embedding_model: None,
        confidence: Some(episode.confidence),
        metadata: episode.metadata,
    }
}

prop_compose! {
    fn any_draft()(
        id in proptest::option::of("[^\u{0}]{1,20}"),
        what in any::<String>().prop_filter("not empty", |what| !what.is_empty()),
        nanoseconds in -60_000_000_000_000_000_000i128..60_000_000_000_000_000_000,
        place in proptest::option::of(any::<String>()),
        who in proptest::collection::vec(".{1,9}", 0..4),
        embedding in proptest::collection::vec(-f32::MAX..f32::MAX, 0..9),
        confidence in proptest::option::of(0.0..=1.0f64),
        spaces in " {0,3}",
    ) -> Draft {
        Draft {
            id,
            what,
            when: Some(Timestamp::from_nanosecond(nanoseconds).unwrap()),
            place: place.filter(|place| place.len() <= 256),
            who,
            embedding,
            embedding_model: None,
            confidence,
            metadata: Some(format!("{{{spaces}\"a\":{spaces}1e3,\"a\":2}}")),
        }
    }
}

proptest! {
    #[test]
    fn what_is_printed_reads_back_to_the_last_bit(draft in any_draft(), base64 in any::<bool>()) {
        let stored = stored(draft);
        let form = if base64 { EmbeddingForm::Base64 } else { EmbeddingForm::List };
        let line = parse_line(printed(&stored, form).as_bytes()).unwrap();
        prop_assert_eq!(line.space.as_deref(), Some("s"));
        prop_assert_eq!(line.draft, draft_of(stored.episode));
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in any::<Vec<u8>>()) {
        let mut members = b"[".to_vec();
        members.extend_from_slice(&text);
        let outcomes = (parse_draft(&text).is_ok(), parse_line(&text).is_ok());
        prop_assert!(!outcomes.0 || outcomes.1);
        prop_assert!(parse_array(&members).is_err() || text.contains(&b']'));
        prop_assert!(parse_ndjson(&text).is_ok());
    }
}

#[test]
fn every_field_can_be_written() {
    let text = r#"{"id":"i","what":"w\u00e9","when":"2026-01-31T13:00:00+01:00","where":"p",
        "who":["a","b"],"embedding":[1,-2.5,3e-1],"embedding_model":"m","confidence":0.5,"metadata":{"k": [1 ,2]}}"#;
    let draft = parse_draft(text.as_bytes()).unwrap();
    let expected = Draft {
        id: Some("i".into()),
        what: "wé".into(),
        when: Some("2026-01-31T12:00:00Z".parse().unwrap()),
        place: Some("p".into()),
        who: vec!["a".into(), "b".into()],
        embedding: vec![1.0, -2.5, 0.3],
        embedding_model: Some("m".into()),
        confidence: Some(0.5),
        metadata: Some(r#"{"k": [1 ,2]}"#.into()),
    };
    assert_eq!(draft, expected);
}

#[test]
fn null_means_left_out() {
    let text = r#"{"id":null,"what":"w","when":null,"where":null,"who":null,"embedding":null,
        "embedding_model":null,"confidence":null,"metadata":null}"#;
    assert_eq!(parse_draft(text.as_bytes()).unwrap(), Draft::of("w"));
}

#[test]
fn an_embedding_may_be_base64_with_or_without_padding() {
    for text in ["AACAPwAAAMA=", "AACAPwAAAMA"] {
        let text = format!(r#"{{"what":"w","embedding":"{text}"}}"#);
        assert_eq!(parse_draft(text.as_bytes()).unwrap().embedding, [1.0, -2.0]);
    }
}

#[test]
fn each_refusal_names_the_field_and_quotes_the_value() {
    let check = |text: &str, field: &str, value: &str| {
        let error = parse_draft(text.as_bytes()).expect_err(text);
        let told = error.to_string();
        let (named, quoted) = match error {
            JsonError::Malformed(malformed) => (malformed.field, malformed.value),
            JsonError::Refused(Error::Limit { field, value, .. }) => (field.into(), value),
            JsonError::Refused(other) => panic!("{other:?}"),
        };
        assert_eq!(named, field, "{text}: {told}");
        assert!(quoted.contains(value), "{text}: {quoted:?} does not contain {value:?}");
        assert!(told.contains(value) && told.contains(field), "{text}: {told}");
    };
    check("", "episode", "");
    check("[]", "episode", "[]");
    check("7", "episode", "7");
    check("{", "episode", "{");
    check("{}", "what", "");
    check(r#"{"what":"w"} x"#, "episode", "x");
    check(r#"{"what":5}"#, "what", "5");
    check(r#"{"what":null}"#, "what", "null");
    check(r#"{"what":"\ud800"}"#, "what", "\\ud800");
    check("{\"what\":\"a\tb\"}", "what", "a\\t");
    check(r#"{"what":"w","colour":"red"}"#, "colour", "colour");
    check(r#"{"what":"w","lsn":1}"#, "lsn", "lsn");
    check(r#"{"what":"w","space":"s"}"#, "space", "space");
    check(r#"{"what":"w","what":"v"}"#, "what", "2 times");
    check(r#"{"what":"w","id":5}"#, "id", "5");
    check(r#"{"what":"w","when":"yesterday"}"#, "when", "yesterday");
    check(r#"{"what":"w","when":"2026-01-31T12:00:00"}"#, "when", "2026-01-31T12:00:00");
    check(r#"{"what":"w","when":12}"#, "when", "12");
    check(r#"{"what":"w","where":["x"]}"#, "where", "[\"x\"]");
    check(r#"{"what":"w","who":"ann"}"#, "who", "\"ann\"");
    check(r#"{"what":"w","who":["ann",3]}"#, "who", "[\"ann\",3]");
    check(r#"{"what":"w","confidence":"high"}"#, "confidence", "\"high\"");
    check(r#"{"what":"w","confidence":1e999}"#, "confidence", "1e999");
    check(r#"{"what":"w","embedding":[]}"#, "embedding", "0 dimensions");
    check(r#"{"what":"w","embedding":""}"#, "embedding", "0 dimensions");
    check(r#"{"what":"w","embedding":[1,"2"]}"#, "embedding", "[1,\"2\"]");
    check(r#"{"what":"w","embedding":[1,NaN]}"#, "embedding", "[1,N");
    check(r#"{"what":"w","embedding":[1,1e39]}"#, "embedding", "1e39 at index 1");
    check(r#"{"what":"w","embedding":[-1e400]}"#, "embedding", "-1e400");
    check(r#"{"what":"w","embedding":"AAA"}"#, "embedding", "2 bytes");
    check(r#"{"what":"w","embedding":"!"}"#, "embedding", "!");
    check(r#"{"what":"w","embedding":{}}"#, "embedding", "{}");
    check(r#"{"what":"w","metadata":{"a":}}"#, "metadata", "{\\\"a\\\":}");
    let many = format!(r#"{{"what":"w","embedding":[0{}]}}"#, ",0".repeat(4096));
    check(&many, "embedding", "4097 dimensions");
    let many = format!(r#"{{"what":"w","who":["a"{}]}}"#, r#","a""#.repeat(64));
    check(&many, "who", "65 names");
}

#[test]
fn bytes_that_are_not_utf8_are_refused() {
    let error = parse_draft(b"{\"what\":\"\xff\"}").unwrap_err().to_string();
    assert!(error.contains("UTF-8") && error.contains("byte 9"), "{error}");
}

#[test]
fn the_wrong_metadata_is_left_to_the_engine_to_refuse() {
    let draft = parse_draft(br#"{"what":"w","metadata":[1]}"#).unwrap();
    assert_eq!(draft.metadata.as_deref(), Some("[1]"));
}

#[test]
fn a_bad_member_never_spoils_its_neighbours() {
    let array = br#"[{"what":"a"}, 5, {"what":"b"}, {"what":6}]"#;
    let lines = b"{\"what\":\"a\"}\n5\r\n\n  \n{\"what\":\"b\"}\r\n{\"what\":6}";
    for drafts in [parse_array(array).unwrap(), parse_ndjson(lines).unwrap()] {
        let whats: Vec<_> = drafts.iter().map(|draft| draft.as_ref().ok()).collect();
        let (a, b) = (Draft::of("a"), Draft::of("b"));
        assert_eq!(whats, [Some(&a), None, Some(&b), None]);
    }
    let with_bad_bytes = b"{\"what\":\"a\"}\n\xff\xfe\n{\"what\":\"b\"}\n";
    let drafts = parse_ndjson(with_bad_bytes).unwrap();
    assert_eq!(drafts.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
}

#[test]
fn a_batch_without_end_or_over_its_bound_is_refused_whole() {
    for bad in ["", "{}", "[{\"what\":\"a\"}", "[{\"what\":\"a\"}}]", "[] []", "[,]"] {
        let error = parse_array(bad.as_bytes()).expect_err(bad);
        assert!(error.to_string().starts_with("batch: "), "{bad}: {error}");
    }
    let array = format!("[1{}]", ",1".repeat(10_000));
    let lines = "1\n".repeat(10_001);
    for outcome in [parse_array(array.as_bytes()), parse_ndjson(lines.as_bytes())] {
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains("10000 episodes") && error.contains("10001 episodes"), "{error}");
    }
    assert_eq!(parse_array(b"[]").unwrap().len(), 0);
    assert_eq!(parse_ndjson(b"\n").unwrap().len(), 0);
}

#[test]
fn answers_have_all_that_the_interface_promises() {
    let stored = stored(Draft {
        embedding: vec![1.0, -2.0],
        metadata: Some("{ \"a\" : 1.50 }".into()),
        ..Draft::of("w")
    });
    let head = r#"{"id":"made","space":"s","lsn":7,"what":"w","when":"2026-01-31T12:00:00.123456789Z","who":[]"#;
    let tail = r#""confidence":1.0,"metadata":{ "a" : 1.50 },"recorded_at":"2026-01-31T12:00:00.123456789Z"}"#;
    let check = |form, embedding: &str| {
        assert_eq!(printed(&stored, form), format!("{head},{embedding}{tail}"));
    };
    check(EmbeddingForm::List, "\"embedding\":[1.0,-2.0],");
    check(EmbeddingForm::Base64, "\"embedding\":\"AACAPwAAAMA=\",");
    check(EmbeddingForm::None, "");
}

/// Parsers' own messages repeat what they refuse: a megabyte in the wrong place came back as a
/// refusal of a megabyte, or of six where it had to be escaped.
#[test]
fn a_refusal_does_not_repeat_all_that_it_refuses() {
    let long = "\\u0001".repeat(10_000);
    let texts = [
        format!(r#"{{"what":"x","confidence":"{long}"}}"#),
        format!(r#"{{"what":"x","when":"{}"}}"#, "2".repeat(10_000)),
        format!(r#"{{"what":"x","embedding":"{}"}}"#, "?".repeat(10_000)),
        format!(r#"{{"{long}":"x"}}"#),
        format!(r#""{long}""#),
    ];
    for text in texts {
        let refusal = parse_line(text.as_bytes()).unwrap_err().to_string();
        assert!(refusal.len() < 2048, "{} bytes: {refusal:.200}", refusal.len());
    }
    let refusal = parse_array(format!("\"{long}\"").as_bytes()).unwrap_err().to_string();
    assert!(refusal.len() < 2048, "{} bytes", refusal.len());
}
