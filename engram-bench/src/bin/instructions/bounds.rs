//! What each path may take: the counts that were measured, and a tenth more.

use std::collections::BTreeMap;

/// Over what was measured, in percent, before a path fails; and under it before that is said.
const SLACK_PERCENT: u64 = 10;

/// Counts by path, as the checked-in file has them.
#[derive(Debug)]
pub(crate) struct Bounds(BTreeMap<String, u64>);

impl Bounds {
    /// Reads lines of a name and a count; `#` begins a comment.
    ///
    /// # Errors
    /// The line that is not of that form.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
        let entry = |line: &str| {
            let (name, count) = line.split_once(' ')?;
            Some((name.to_owned(), count.trim().parse().ok()?))
        };
        lines
            .filter(|line| !line.is_empty())
            .map(|line| entry(line).ok_or_else(|| format!("not a name and a count: {line:?}")))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Holds a count against its bound. Gives the sentence to print.
    ///
    /// # Errors
    /// The sentence that says why it fails, and what to do.
    pub(crate) fn judge(&self, name: &str, counted: u64) -> Result<String, String> {
        let Some(&measured) = self.0.get(name) else {
            return Err(format!("{name}: {counted} instructions, and no bound: add that line"));
        };
        let bound = measured + measured * SLACK_PERCENT / 100;
        let said = format!("{name}: {counted} instructions, at most {bound}");
        if counted > bound {
            return Err(format!(
                "{said}: TOO MANY. It took {measured}. Make it cheaper; or, where they are worth \
                 it or a new compiler is the reason, write {counted} into the file of bounds, and \
                 say so in the commit."
            ));
        }
        if counted + measured * SLACK_PERCENT / 100 < measured {
            return Ok(format!("{said}. It took {measured}: lower its line"));
        }
        Ok(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds() -> Bounds {
        Bounds::parse("# counts\n\nremember  1000 # as of today\nrecall 50\n").unwrap()
    }

    #[test]
    fn a_tenth_more_than_was_measured_passes_and_more_than_that_fails_by_name() {
        assert_eq!(
            bounds().judge("remember", 1100).unwrap(),
            "remember: 1100 instructions, at most 1100"
        );
        let failed = bounds().judge("remember", 1101).unwrap_err();
        for part in ["remember: 1101 ", "at most 1100", "took 1000", "write 1101 into"] {
            assert!(failed.contains(part), "{failed}");
        }
    }

    #[test]
    fn a_path_that_became_cheaper_passes_and_says_so() {
        assert!(bounds().judge("remember", 899).unwrap().contains("lower its line"));
        assert!(!bounds().judge("remember", 900).unwrap().contains("lower"));
    }

    #[test]
    fn a_path_without_a_bound_fails_and_so_does_a_line_that_is_none() {
        assert!(bounds().judge("forget", 1).unwrap_err().contains("no bound"));
        assert!(Bounds::parse("remember").is_err());
        assert!(Bounds::parse("remember many").is_err());
    }

    #[test]
    fn every_path_has_its_line_and_no_line_is_left_over() {
        let checked_in = Bounds::parse(include_str!("../../../instructions.txt")).unwrap();
        let mut names: Vec<&str> = crate::paths::PATHS.iter().map(|path| path.name).collect();
        names.sort_unstable();
        assert_eq!(checked_in.0.keys().collect::<Vec<_>>(), names);
    }
}
