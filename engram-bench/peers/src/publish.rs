//! Puts what was measured into a page: between a pair of marks stands what the last run of that
//! part gave, and nobody copies figures by hand.

use std::path::Path;

use crate::Outcome;

/// The mark before a part's figures, without its name.
const BEGIN: &str = "<!-- measured: ";
const END: &str = "<!-- end -->";

/// Rewrites every marked place of the page for which `measured` has a file, and copies the plots
/// beside it, to a directory of the page's name.
pub(crate) fn publish(measured: &Path, page: &Path) -> Outcome<()> {
    let text = std::fs::read_to_string(page)?;
    let fragment = |part: &str| std::fs::read_to_string(measured.join(format!("{part}.md"))).ok();
    std::fs::write(page, replaced(&text, fragment))?;
    let plots = page.with_extension("");
    std::fs::create_dir_all(&plots)?;
    for entry in std::fs::read_dir(measured)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "svg") {
            let name = path.file_name().ok_or("a plot without a name")?;
            std::fs::copy(&path, plots.join(name))?;
        }
    }
    Ok(())
}

/// The page with every known part's fragment in its place.
fn replaced(page: &str, fragment: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::new();
    let mut rest = page;
    while let Some((before, marked)) = rest.split_once(BEGIN) {
        let (Some((part, behind)), Some((_, after))) =
            (marked.split_once(" -->"), marked.split_once(END))
        else {
            break;
        };
        let old = behind.split(END).next().unwrap_or_default();
        let new = fragment(part).map(|new| format!("\n{}\n", new.trim_end()));
        let new = new.as_deref().unwrap_or(old);
        out.extend([before, BEGIN, part, " -->", new, END]);
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_takes_its_place_and_the_rest_of_the_page_stays() {
        let page =
            "a\n<!-- measured: x -->\nold\n<!-- end -->\nb\n<!-- measured: y -->kept<!-- end -->c";
        let known = |part: &str| (part == "x").then(|| "new\n".to_owned());
        let expected =
            "a\n<!-- measured: x -->\nnew\n<!-- end -->\nb\n<!-- measured: y -->kept<!-- end -->c";
        assert_eq!(replaced(page, known), expected);
        assert_eq!(replaced(expected, known), expected);
    }

    #[test]
    fn a_mark_without_an_end_changes_nothing() {
        let page = "a <!-- measured: x --> b";
        assert_eq!(replaced(page, |_| Some("new".into())), page);
    }
}
