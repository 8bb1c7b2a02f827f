//! What Engram depends on obeys `deny.toml`: licences, registries, banned and doubled crates.
//!
//! The same rules as `cargo deny check licenses bans sources`, for machines that do not have it:
//! it asks `cargo metadata`, offline, and only about the platform at hand.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

const RULES: &str = include_str!("../../deny.toml");
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// The quoted strings of one list of `deny.toml`: of `allow` the entries, of `skip` and `deny`
/// the names after `crate =`.
fn rule(section: &str, list: &str) -> BTreeSet<String> {
    let body = RULES.split(&format!("\n[{section}]\n")).nth(1).expect("the section");
    let body = body.split("\n[").next().expect("its end");
    let body = body.split(&format!("\n{list} = [\n")).nth(1).expect("the list");
    let entries: BTreeSet<String> = body
        .lines()
        .take_while(|line| *line != "]")
        .filter(|line| !line.trim_start().starts_with('#'))
        .filter_map(|line| line.split('"').nth(1))
        .map(str::to_owned)
        .collect();
    assert!(!entries.is_empty(), "{section}.{list} is empty, or not read rightly");
    entries
}

/// The licence that `deny.toml` allows one crate alone, if it does.
fn exception(name: &str) -> Option<String> {
    let body = RULES.split("\nexceptions = [\n").nth(1).expect("the exceptions");
    let entries = body.lines().take_while(|line| *line != "]");
    let named = |line: &&str| line.ends_with(&format!("crate = \"{name}\" }},"));
    let licence = entries.filter(named).find_map(|line| line.split('"').nth(1));
    licence.map(str::to_owned)
}

/// Whether an SPDX expression can be met with the allowed licences. `/` is the old `OR`.
fn may_use(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    let met = any_of(&mut words, allowed);
    met && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any_of(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    let mut met = all_of(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        met |= all_of(words, allowed);
    }
    met
}

fn all_of(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    let mut met = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        met &= one(words, allowed);
    }
    met
}

fn one(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    if words.next_if_eq(&"(").is_some() {
        let met = any_of(words, allowed);
        return words.next() == Some(")") && met;
    }
    let mut name = words.next().unwrap_or_default().to_owned();
    if words.next_if_eq(&"WITH").is_some() {
        name = format!("{name} WITH {}", words.next().unwrap_or_default());
    }
    allowed.contains(&name)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// `cargo metadata` of the workspace, for the platform that the tests run on.
fn metadata() -> Value {
    let cargo = env!("CARGO");
    let version = Command::new(cargo).arg("-vV").output().expect("cargo runs");
    let version = String::from_utf8(version.stdout).expect("UTF-8");
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("a host");
    let answer = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .args(["--filter-platform", host])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .expect("cargo runs");
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    serde_json::from_slice(&answer.stdout).expect("cargo speaks JSON")
}

/// The packages by id, and those of them that are part of the shipped binary.
fn graph(metadata: &Value) -> (BTreeMap<&str, &Value>, BTreeSet<&str>) {
    let packages: BTreeMap<&str, &Value> =
        list(metadata, "packages").iter().map(|package| (text(package, "id"), package)).collect();
    let nodes: BTreeMap<&str, &Value> =
        list(&metadata["resolve"], "nodes").iter().map(|node| (text(node, "id"), node)).collect();
    let cli = packages.iter().find(|(_, package)| text(package, "name") == "engram-cli");
    let mut shipped = BTreeSet::new();
    let mut next = vec![*cli.expect("the binary's package").0];
    while let Some(id) = next.pop() {
        if !shipped.insert(id) {
            continue;
        }
        let normal = |dependency: &&Value| {
            list(dependency, "dep_kinds").iter().any(|kind| kind["kind"].is_null())
        };
        next.extend(list(nodes[id], "deps").iter().filter(normal).map(|dep| text(dep, "pkg")));
    }
    (packages, shipped)
}

#[test]
fn expressions_of_licences_are_understood() {
    let allowed = BTreeSet::from(["MIT".to_owned(), "Apache-2.0 WITH LLVM-exception".to_owned()]);
    for (expression, met) in [
        ("MIT", true),
        ("GPL-3.0-only", false),
        ("GPL-3.0-only OR MIT", true),
        ("MIT/Apache-2.0", true),
        ("MIT AND GPL-3.0-only", false),
        ("(MIT OR GPL-3.0-only) AND MIT", true),
        ("(MIT OR ISC) AND Unicode-3.0", false),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("Apache-2.0", false),
        ("MIT ISC", false),
        ("(MIT", false),
        ("", false),
    ] {
        assert_eq!(may_use(expression, &allowed), met, "{expression:?}");
    }
}

#[test]
fn every_dependency_is_licensed_published_and_not_banned() {
    let (allowed, banned) = (rule("licenses", "allow"), rule("bans", "deny"));
    let metadata = metadata();
    let mut problems = Vec::new();
    let mut seen = 0;
    for package in list(&metadata, "packages") {
        let name = format!("{} {}", text(package, "name"), text(package, "version"));
        let mut allowed = allowed.clone();
        allowed.extend(exception(text(package, "name")));
        if !may_use(text(package, "license"), &allowed) {
            problems.push(format!("{name}: licence {:?} is not allowed", text(package, "license")));
        }
        if banned.contains(text(package, "name")) {
            problems.push(format!("{name}: banned"));
        }
        if !package["source"].is_null() && text(package, "source") != CRATES_IO {
            problems.push(format!("{name}: comes from {}", text(package, "source")));
        }
        seen += 1;
    }
    assert!(seen > 20, "only {seen} packages: the graph was not read rightly");
    assert!(problems.is_empty(), "see deny.toml:\n{}", problems.join("\n"));
}

#[test]
fn the_shipped_binary_holds_one_version_of_each_crate() {
    let excused = rule("bans", "skip");
    let metadata = metadata();
    let (packages, shipped) = graph(&metadata);
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for id in &shipped {
        let package = packages[id];
        versions.entry(text(package, "name")).or_default().push(text(package, "version"));
    }
    let doubled: BTreeMap<_, _> =
        versions.into_iter().filter(|(_, versions)| versions.len() > 1).collect();
    let unexcused: Vec<String> = doubled
        .iter()
        .filter(|(name, _)| !excused.contains(**name))
        .map(|(name, versions)| format!("{name}: {}", versions.join(", ")))
        .collect();
    assert!(
        unexcused.is_empty(),
        "agree on one version (cargo tree -d), or excuse it in deny.toml with a reason:\n{}",
        unexcused.join("\n")
    );
}
