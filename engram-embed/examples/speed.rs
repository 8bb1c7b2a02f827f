//! How long the table takes to load, and how many texts a second one thread embeds.
//!
//! `cargo run --release -p engram-embed --example speed`

#![expect(clippy::print_stdout, reason = "this is what it is for")]
#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use std::hint::black_box;
use std::time::Instant;

use engram_embed::{Embedder, MODEL, TableError};

/// About ten words each, as people chat.
const TEXTS: [&str; 6] = [
    "We finally booked the flights, leaving on the 14th of March.",
    "The deploy failed again last night, the replica ran out of disk.",
    "You have to let it simmer without the lid for an hour.",
    "My insurance wants a letter for that, can you mail it?",
    "I used to sing bass, does that count for anything here?",
    "Crème brûlée again? I would rather have the lentil curry.",
];
const ROUNDS: u32 = 40_000;

fn main() -> Result<(), TableError> {
    let start = Instant::now();
    let embedder = Embedder::built_in()?;
    println!("{MODEL}: loaded in {:.1} ms", start.elapsed().as_secs_f64() * 1e3);

    let report = |name: &str, texts: &[&str]| {
        let rounds = ROUNDS / u32::try_from(texts.len()).unwrap_or(1);
        let start = Instant::now();
        for _ in 0..rounds {
            for text in texts {
                black_box(embedder.embed(black_box(text)));
            }
        }
        let each = start.elapsed().as_secs_f64() / f64::from(ROUNDS);
        println!("{name}: {:.0} texts a second, {:.2} µs each", 1.0 / each, each * 1e6);
    };
    report("ASCII", TEXTS.get(..5).unwrap_or_default());
    report("with accents", TEXTS.get(5..).unwrap_or_default());

    let long = TEXTS.join(" ").repeat(1024 * 1024 / 370);
    let start = Instant::now();
    black_box(embedder.embed(&long));
    let seconds = start.elapsed().as_secs_f64();
    println!("{} KiB in one text: {:.0} ms", long.len() / 1024, seconds * 1e3);
    Ok(())
}
