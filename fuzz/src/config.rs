//! The settings file and the command line.
//!
//! An input is words that end in a zero byte: the file's text, then the words of the command line.
//! One whose first word begins with `=` asks for a comparison instead: a flag of `engram start` by
//! number, and its value, must mean in the file what they mean on the command line.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::time::Duration;

use engram_cli::check_settings;
use engram_core::episode::limits::{SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
use engram_core::{Durability, Options};

use crate::meter::Bound;

/// The command line's own description takes what it takes; a file becomes a table of a few words
/// for each of its bytes, and a refusal names the keys that there are.
const ALLOCATED: Bound = Bound { fixed_bytes: 2 << 20, per_byte: 512 };
const WORDS_MAX: usize = 12;
/// Flags of `engram start` that end up in the engine's options.
const FLAGS: [&str; 7] = [
    "durability",
    "recovery",
    "accept-loss",
    "segment-bytes",
    "forget-erase-max",
    "compaction-bytes-per-second-max",
    "queue-max",
];

/// The laws of one input.
pub fn run(input: &[u8]) {
    if let Some((b'=', rest)) = input.split_first() {
        return compare(rest);
    }
    let mut words = input.split(|byte| *byte == 0);
    let file = words.next().unwrap_or_default();
    let Ok(file) = std::str::from_utf8(file) else { return };
    let argv = words.take(WORDS_MAX).map(|word| OsString::from_vec(word.to_vec()));
    let argv: Vec<OsString> = std::iter::once("engram".into()).chain(argv).collect();
    let file = (!file.is_empty()).then_some(file);
    let read = ALLOCATED.hold("settings", input.len(), || check_settings(file, &argv));
    check(read);
}

fn check(read: Result<Option<Options>, String>) {
    match read {
        Ok(Some(options)) => {
            assert!((SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&options.segment_bytes));
            assert!((1..=1 << 20).contains(&options.queue_max), "{}", options.queue_max);
            assert!(options.accept_loss.iter().all(|(first, last)| 1 <= *first && first <= last));
            if let Durability::Interval(time) = options.durability {
                let bounds = Duration::from_millis(1)..=Duration::from_hours(1);
                assert!(bounds.contains(&time), "{time:?}");
            }
            assert!(options.forget_erase_max <= Duration::from_hours(24 * 36_500));
        }
        Ok(None) => {}
        Err(refusal) => assert!(!refusal.trim().is_empty(), "a refusal without a word"),
    }
}

fn compare(input: &[u8]) {
    let Some((flag, value)) = input.split_first() else { return };
    let Some(flag) = FLAGS.get(usize::from(*flag) % FLAGS.len()) else { return };
    let Ok(value) = std::str::from_utf8(value) else { return };
    let quoted = value.chars().fold(String::new(), |text, c| match c {
        '"' | '\\' => text + "\\" + c.encode_utf8(&mut [0; 4]),
        c if c.is_control() => text + &format!("\\u{:04x}", u32::from(c)),
        c => text + c.encode_utf8(&mut [0; 4]),
    });
    let file = format!("{} = \"{quoted}\"\n", flag.replace('-', "_"));
    let start = ["engram", "start"].map(OsString::from);
    let by_file = check_settings(Some(&file), &start);
    let given = [&start[..], &[OsString::from(format!("--{flag}={value}"))]].concat();
    let by_flag = check_settings(None, &given);
    let told = |read: &Result<_, String>| {
        read.as_ref().ok().map(|it: &Option<Options>| it.as_ref().map(values))
    };
    assert_eq!(told(&by_file), told(&by_flag), "--{flag}={value:?}: {by_file:?}, {by_flag:?}");
    let over = check_settings(Some(&file), &given);
    assert_eq!(told(&over), told(&by_flag), "the command line wins");
    check(by_file);
}

/// What of the options can be chosen.
fn values(options: &Options) -> String {
    let Options { durability, recovery, accept_loss, segment_bytes, queue_max, .. } = options;
    let Options { compaction_bytes_per_second_max, forget_erase_max, .. } = options;
    format!(
        "{durability:?} {recovery:?} {accept_loss:?} {segment_bytes} {queue_max} \
         {compaction_bytes_per_second_max} {forget_erase_max:?}"
    )
}

/// Files and command lines.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    [
        "data = \"/d\"\nlisten = \"[::1]:0\"\ndurability = \"interval=20ms\"\n\0start",
        "accept_loss = [\"1-2\", \"7\"]\nqueue_max = 7\nsegment_bytes = \"1MiB\"\n\0start\0--recovery=strict",
        "[list]\nlimit = 3\nall = true\n\0list\0--space\0s",
        "durabilty = 1\n\0start",
        "[list]\nlimits = 3\n\0list",
        "a = = 3\n\0start",
        "x = 2026-01-01T00:00:00Z\n[x.y]\nz = 1.5\n\0start",
        "\0start\0--segment-bytes\x001KiB",
        "\0remember\0--confidence=2\0--metadata={\0tea",
        "\0forget\0--whole-space\0s\0id",
        "\0wal\0quarantine\0restore\0n\0--data\0d",
        "\0help\0wal",
        "\0completions\0bash",
        "=\0interval=1h",
        "=\x02120-180",
        "=\x031GiB",
        "=\x0436500d",
        "=\x0664 ",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
