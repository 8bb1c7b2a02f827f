//! What a run is made of: acts, drawn from a seed, each with dice of its own. So leaving some
//! out does not change what the others do, and a failing run can be made short.

use std::fmt;

use crate::dice::{Dice, mix};
use crate::disk::{Op, Trouble};

/// How a life of the engine ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It is closed.
    Close,
    /// The process is killed: what it wrote stays in the cache.
    Kill,
    /// Power is lost: what was not synced is lost in parts.
    PowerLoss,
}

/// One act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Remember an episode.
    Put(Put),
    /// Forget one.
    Del {
        /// Number of the space.
        space: u8,
        /// Number of the id.
        id: u8,
    },
    /// Forget a space.
    DelSpace {
        /// Its number.
        space: u8,
    },
    /// Remember several in one call.
    Batch {
        /// Number of the space.
        space: u8,
        /// How many.
        count: u8,
        /// Bytes of each.
        bytes: u16,
    },
    /// Several callers at once, the writer and the upkeep stepped in turns between them.
    Crowd(Vec<Put>),
    /// So many turns of the upkeep.
    Upkeep(u8),
    /// Nobody calls for a while.
    Quiet,
    /// A pass of compaction over all that is dead.
    Compact,
    /// A life ends, and another begins; the recovery in between is cut short so many times.
    Restart {
        /// How it ends.
        end: End,
        /// At how many changing calls of recovery it ends again.
        again: Vec<u8>,
    },
    /// The machine dies at this changing call from now, in whatever act it comes.
    CrashAt(u8),
    /// A call goes wrong.
    Trouble(Op, u8, Trouble),
    /// The disk has room for so many KiB more; or all that anyone wants.
    Room(Option<u16>),
    /// The next life is of a version that knows schemas up to this.
    Version(u16),
    /// Bytes are hit before the next life begins.
    Damage(Hit),
}

/// An episode to remember.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Put {
    /// Number of the space.
    pub space: u8,
    /// Number of the id.
    pub id: u8,
    /// Bytes of text.
    pub bytes: u16,
    /// Dimension of the embedding; 0 for none.
    pub dimension: u8,
    /// Only if there is none of this id.
    pub absent: bool,
    /// A forget instead.
    pub forget: bool,
}

/// What is done to bytes at rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hit {
    /// One bit is flipped.
    Flip,
    /// A sector reads as zeros.
    Zero,
    /// A sector was written to another place (of the same file).
    Misdirected,
    /// A sector holds what it held before.
    Stale,
}

/// Kinds of trouble that a run may have; each can be switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Processes are killed.
    Kill,
    /// Power is lost.
    PowerLoss,
    /// Reads fail.
    ReadEio,
    /// Writes and changes of names fail.
    WriteEio,
    /// Syncs fail.
    SyncEio,
    /// The disk is full.
    Enospc,
    /// Reads and writes are cut short.
    Short,
    /// Bits flip.
    Flip,
    /// Sectors are zeroed.
    Zero,
    /// Writes go to the wrong place.
    Misdirected,
    /// Sectors hold what they held before.
    Stale,
    /// Other versions of the engine.
    Version,
    /// A v0.1.0 directory to begin with.
    Legacy,
    /// Recalls, with indexes that are made and saved: no trouble, but runs without it go as they
    /// went before there was recall.
    Recall,
}

impl Kind {
    /// All of them; the last is no trouble to draw.
    pub const ALL: [Self; 14] = [
        Self::Kill,
        Self::PowerLoss,
        Self::ReadEio,
        Self::WriteEio,
        Self::SyncEio,
        Self::Enospc,
        Self::Short,
        Self::Flip,
        Self::Zero,
        Self::Misdirected,
        Self::Stale,
        Self::Version,
        Self::Legacy,
        Self::Recall,
    ];

    /// Those that a run may have as troubles.
    fn drawn() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|&kind| kind != Self::Recall)
    }

    /// Its name on the command line and in the last lines of a run.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::PowerLoss => "power-loss",
            Self::ReadEio => "read-eio",
            Self::WriteEio => "write-eio",
            Self::SyncEio => "sync-eio",
            Self::Enospc => "enospc",
            Self::Short => "short",
            Self::Flip => "flip",
            Self::Zero => "zero",
            Self::Misdirected => "misdirected",
            Self::Stale => "stale",
            Self::Version => "version",
            Self::Legacy => "legacy",
            Self::Recall => "recall",
        }
    }

    /// By its name.
    ///
    /// # Errors
    /// The names that there are.
    pub fn parse(name: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| format!("no kind of trouble is called {name:?}; there are {}", names()))
    }
}

/// What is fixed for a run.
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Largest segment, in bytes.
    pub segment_bytes: u64,
    /// Whether compaction runs by itself.
    pub automatic: bool,
    /// Whether acknowledged means synced.
    pub durable: bool,
    /// Kinds of trouble that this run has.
    pub kinds: Vec<Kind>,
    /// Whether a v0.1.0 directory is there.
    pub legacy: bool,
    /// Whether somebody recalls.
    pub recalls: bool,
    /// Whether a sector that was written to the wrong place may be missing from its own.
    pub moves: bool,
    /// What happens, each with its dice.
    pub acts: Vec<(u64, Act)>,
}

/// Seeds below go as they went before sectors moved.
const MOVES_FROM: u64 = 1 << 32;

impl Plan {
    /// The plan of a seed, without some kinds of trouble.
    #[must_use]
    pub fn new(seed: u64, without: &[Kind]) -> Self {
        let mut dice = Dice::new(seed);
        // Each run has some kinds only: what is rare beside all others is common here.
        let all = dice.per_mille(300);
        let kinds: Vec<Kind> = Kind::drawn().filter(|_| all || dice.per_mille(450)).collect();
        let kinds: Vec<Kind> = kinds.into_iter().filter(|kind| !without.contains(kind)).collect();
        let count = 10 + dice.below(90);
        let mut plan = Self {
            seed,
            segment_bytes: [16 << 10, 16 << 10, 32 << 10, 64 << 10][dice.index(4)],
            automatic: dice.per_mille(600),
            durable: dice.per_mille(850),
            legacy: kinds.contains(&Kind::Legacy) && dice.per_mille(300),
            kinds,
            recalls: !without.contains(&Kind::Recall) && Dice::new(!seed).per_mille(200),
            moves: seed >= MOVES_FROM,
            acts: Vec::new(),
        };
        let style = Style::new(&mut dice);
        for number in 0..count {
            let seed = mix(seed ^ mix(number + 1));
            let act = plan.draw(&mut Dice::new(seed), &style);
            plan.acts.push((mix(seed), act));
        }
        plan
    }

    /// The same with these acts only.
    #[must_use]
    pub fn only(&self, kept: &[usize]) -> Self {
        let acts = kept.iter().filter_map(|&at| self.acts.get(at).cloned()).collect();
        Self { acts, ..self.clone() }
    }

    fn has(&self, kind: Kind) -> bool {
        self.kinds.contains(&kind)
    }

    fn draw(&self, dice: &mut Dice, style: &Style) -> Act {
        let roll = dice.below(1000);
        match roll {
            0..330 => Act::Put(style.put(dice)),
            330..430 => Act::Del { space: style.space(dice), id: style.id(dice) },
            430..445 => Act::DelSpace { space: style.space(dice) },
            445..485 => {
                let count = 2 + narrow(dice.below(4));
                Act::Batch { space: style.space(dice), count, bytes: style.bytes(dice) }
            }
            485..545 => Act::Crowd((0..2 + dice.below(4)).map(|_| style.put(dice)).collect()),
            545..685 => Act::Upkeep(1 + narrow(dice.below(12))),
            685..715 => Act::Quiet,
            715..765 => Act::Compact,
            765..865 => self.restart(dice),
            865..905 => Act::CrashAt(narrow(dice.below(40))),
            _ => self.trouble(dice),
        }
    }

    fn restart(&self, dice: &mut Dice) -> Act {
        let mut ends = vec![End::Close];
        if self.has(Kind::Kill) {
            ends.push(End::Kill);
        }
        if self.has(Kind::PowerLoss) {
            ends.extend([End::PowerLoss; 2]);
        }
        let again = (0..dice.below(4).saturating_sub(1)).map(|_| narrow(dice.below(45))).collect();
        Act::Restart { end: dice.pick(&ends), again }
    }

    fn trouble(&self, dice: &mut Dice) -> Act {
        let kind = if self.kinds.is_empty() { Kind::Kill } else { dice.pick(&self.kinds) };
        let n = narrow(dice.below(12));
        match kind {
            Kind::Kill | Kind::PowerLoss | Kind::Legacy | Kind::Recall => self.restart(dice),
            Kind::ReadEio => Act::Trouble(dice.pick(&[Op::Read, Op::Open]), n, Trouble::Eio),
            Kind::WriteEio => {
                let ops = [Op::Write, Op::Create, Op::Rename, Op::Remove, Op::SetLen, Op::Write];
                Act::Trouble(dice.pick(&ops), n / 3, Trouble::Eio)
            }
            Kind::SyncEio => {
                Act::Trouble(dice.pick(&[Op::Sync, Op::Sync, Op::SyncDir]), n / 3, Trouble::Eio)
            }
            Kind::Enospc if dice.per_mille(400) => {
                Act::Trouble(dice.pick(&[Op::Write, Op::Create]), n / 2, Trouble::Enospc)
            }
            Kind::Enospc => Act::Room(dice.per_mille(600).then(|| wide(dice.below(50)))),
            Kind::Short => Act::Trouble(dice.pick(&[Op::Write, Op::Read]), n, Trouble::Short),
            Kind::Flip => Act::Damage(Hit::Flip),
            Kind::Zero => Act::Damage(Hit::Zero),
            Kind::Misdirected => Act::Damage(Hit::Misdirected),
            Kind::Stale => Act::Damage(Hit::Stale),
            Kind::Version => Act::Version(1 + wide(dice.below(2))),
        }
    }
}

fn narrow(n: u64) -> u8 {
    u8::try_from(n).unwrap_or(u8::MAX)
}

fn wide(n: u64) -> u16 {
    u16::try_from(n).unwrap_or(u16::MAX)
}

/// How large this run's world is.
#[derive(Debug)]
struct Style {
    spaces: u64,
    ids: u64,
    bytes_max: u64,
    embeddings: bool,
}

impl Style {
    fn new(dice: &mut Dice) -> Self {
        Self {
            spaces: 1 + dice.below(3),
            ids: 2 + dice.below(12),
            bytes_max: [60, 600, 2500, 9000][dice.index(4)],
            embeddings: dice.per_mille(400),
        }
    }

    fn space(&self, dice: &mut Dice) -> u8 {
        narrow(dice.below(self.spaces))
    }

    fn id(&self, dice: &mut Dice) -> u8 {
        narrow(dice.below(self.ids))
    }

    fn bytes(&self, dice: &mut Dice) -> u16 {
        wide(1 + dice.below(self.bytes_max))
    }

    fn put(&self, dice: &mut Dice) -> Put {
        let embeds = self.embeddings && dice.per_mille(500);
        Put {
            space: self.space(dice),
            id: self.id(dice),
            bytes: self.bytes(dice),
            dimension: if embeds { 2 + narrow(dice.below(2)) } else { 0 },
            absent: dice.per_mille(120),
            forget: dice.per_mille(150),
        }
    }
}

impl fmt::Display for Put {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { space, id, bytes, dimension, absent, forget } = self;
        if *forget {
            return write!(f, "forget s{space}/e{id}");
        }
        write!(f, "remember s{space}/e{id} with {bytes} bytes of text")?;
        if *dimension > 0 {
            write!(f, " and an embedding of {dimension}")?;
        }
        if *absent { write!(f, ", if there is none") } else { Ok(()) }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put(put) => write!(f, "{put}"),
            Self::Del { space, id } => write!(f, "forget s{space}/e{id}"),
            Self::DelSpace { space } => write!(f, "forget all of space s{space}"),
            Self::Batch { space, count, bytes } => {
                write!(f, "remember s{space}/e0 to e{} of {bytes} bytes in one batch", count - 1)
            }
            Self::Crowd(puts) => {
                write!(f, "{} callers at once: ", puts.len())?;
                let texts: Vec<String> = puts.iter().map(ToString::to_string).collect();
                write!(f, "{}", texts.join("; "))
            }
            Self::Upkeep(turns) => write!(f, "{turns} turns of the upkeep"),
            Self::Quiet => write!(f, "nobody calls for a while"),
            Self::Compact => write!(f, "compact"),
            Self::Restart { end, again } => {
                match end {
                    End::Close => write!(f, "close and open again")?,
                    End::Kill => write!(f, "kill the process and start it again")?,
                    End::PowerLoss => write!(f, "lose power and start again")?,
                }
                for n in again {
                    write!(f, "; that ends at changing call {n} of recovery")?;
                }
                Ok(())
            }
            Self::CrashAt(n) => write!(f, "the machine will die at changing call {n} from here"),
            Self::Trouble(op, n, trouble) => {
                write!(f, "the {n}th next call that does {op:?} goes wrong: {trouble:?}")
            }
            Self::Room(None) => write!(f, "the disk has room again"),
            Self::Room(Some(kib)) => write!(f, "the disk has room for {kib} KiB more"),
            Self::Version(schema) => {
                write!(f, "the next start is of a version that knows schemas up to {schema}")
            }
            Self::Damage(Hit::Flip) => write!(f, "a bit flips before the next start"),
            Self::Damage(Hit::Zero) => write!(f, "a sector turns to zeros before the next start"),
            Self::Damage(Hit::Misdirected) => {
                write!(f, "a sector is written over another before the next start")
            }
            Self::Damage(Hit::Stale) => {
                write!(f, "a sector falls back to what it held before, before the next start")
            }
        }
    }
}
