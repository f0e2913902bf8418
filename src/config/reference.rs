//! The tables of `docs/configuration.md`, made from the table of settings and compared with what is
//! there.
//!
//! The defaults that `docs/api.md` names are compared, too, and are not made.
//!
//! `NABU_UPDATE_DOCS=1 cargo test -p nabu-store --lib config` regenerates them. A table stands
//! between `<!-- settings: GROUP -->` and `<!-- end of settings -->`.

use std::path::Path;

use super::kind::FlagForm;
use super::setting::{DefaultValue, Setting};
use super::table::SETTINGS;

/// The variable that has the documentation written instead of compared.
const UPDATE: &str = "NABU_UPDATE_DOCS";
const PAGE: &str = "docs/configuration.md";
const BEGIN: &str = "<!-- settings: ";
const END: &str = "<!-- end of settings -->";
/// Where the lines of the page wrap that are not of a table.
const COLUMNS_MAX: usize = 100;
/// What an empty cell shows.
const NOTHING: &str = "–";
/// What the page calls the settings that are in no group.
const SERVER: &str = "server";

/// What the page calls the group of a setting: `limits`, `log`, `tls`.
fn group_of(setting: &Setting) -> &'static str {
    setting.key.and_then(|key| key.split_once('.')).map_or(SERVER, |(group, _)| group)
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

/// The names of a setting, its default, its bounds and what it is.
fn cells(setting: &Setting) -> [String; 6] {
    let optional = |text: Option<String>| text.map_or_else(|| NOTHING.to_owned(), |text| code(&text));
    let flag = setting.flag.map(|flag| match setting.kind.flag_form() {
        FlagForm::Switch => format!("{}[={}]", flag.name, flag.value_name),
        _ => format!("{} {}", flag.name, flag.value_name),
    });
    let default = match setting.default {
        DefaultValue::Is(word) => code(word),
        DefaultValue::Described(words) => words.to_owned(),
    };
    [
        optional(setting.key.map(str::to_owned)),
        optional(setting.variable.map(str::to_owned)),
        optional(flag),
        default,
        setting.kind.bounds(),
        setting.help.to_owned(),
    ]
}

/// The table of a group in Markdown, without the columns that are empty.
fn table(group: &str) -> String {
    let rows: Vec<[String; 6]> = SETTINGS.iter().filter(|setting| group_of(setting) == group).map(cells).collect();
    assert!(!rows.is_empty(), "{PAGE} has a table of {group}, which is no group");
    let columns: Vec<usize> = (0..6).filter(|column| rows.iter().any(|row| row[*column] != NOTHING)).collect();
    let line = |row: [&str; 6]| {
        let cells: Vec<&str> = columns.iter().map(|column| row[*column]).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let mut text = line(["key in the file", "variable", "flag", "default", "bounds", "what it is"]);
    text.push_str(&line(["---"; 6]));
    for row in &rows {
        text.push_str(&line(row.each_ref().map(String::as_str)));
    }
    text
}

/// The page with its tables as they should be, and the groups they are of.
fn renewed(page: &str) -> (String, Vec<&str>) {
    let mut parts = page.split(BEGIN);
    let mut text = parts.next().expect("a split has a first part").to_owned();
    let mut groups = Vec::new();
    for part in parts {
        let (group, rest) = part.split_once(" -->\n").expect("a table says its group");
        let (_, after) = rest.split_once(END).unwrap_or_else(|| panic!("the table of {group} has no end"));
        text.push_str(&format!("{BEGIN}{group} -->\n{}{END}{after}", table(group)));
        groups.push(group);
    }
    (text, groups)
}

#[test]
fn the_documentation_has_every_setting_as_the_table_has_it() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let page = std::fs::read_to_string(&path).expect("the page is there");
    let (text, mut groups) = renewed(&page);
    let too_long = page.lines().find(|line| line.chars().count() > COLUMNS_MAX && !line.starts_with('|'));
    assert_eq!(too_long, None, "{PAGE} wraps at {COLUMNS_MAX} columns");
    groups.sort_unstable();
    let mut expected: Vec<&str> = SETTINGS.iter().map(group_of).collect();
    expected.sort_unstable();
    expected.dedup();
    assert_eq!(groups, expected, "{PAGE} has the table of each group once");
    if std::env::var_os(UPDATE).is_some_and(|value| !value.is_empty()) {
        std::fs::write(&path, text).expect("the page can be written");
        return;
    }
    for (is, should_be) in page.lines().zip(text.lines()) {
        assert_eq!(is, should_be, "{PAGE} is not what the table says; {UPDATE}=1 with this test writes it anew");
    }
    assert_eq!(page, text, "{PAGE} is not what the table says; {UPDATE}=1 with this test writes it anew");
}

/// A default as a sentence has it: `10 s`, `16 KiB`, `65,536`.
fn in_words(key: &str, word: &str) -> String {
    if key.ends_with("_ms") {
        let milliseconds: u64 = word.parse().expect("a default is valid");
        return format!("{} s", milliseconds / 1000);
    }
    let digits = word.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = word.split_at(digits);
    match number.len().checked_sub(3).filter(|thousands| *thousands > 0 && number.len() > 4) {
        Some(thousands) => format!("{},{}", &number[..thousands], &number[thousands..]),
        None if unit.is_empty() => number.to_owned(),
        None => format!("{number} {unit}"),
    }
}

#[test]
fn the_page_of_the_api_names_the_defaults_of_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/api.md");
    let page = std::fs::read_to_string(path).expect("the page is there").replace('\n', " ");
    let mut compared = 0;
    for setting in SETTINGS {
        let (Some(key), DefaultValue::Is(word)) = (setting.key, setting.default) else { continue };
        for (at, _) in page.match_indices(&format!(" (`{key}`)")) {
            let before = &page[page.floor_char_boundary(at.saturating_sub(40))..at];
            assert!(before.contains(&format!(" {}", in_words(key, word))), "{key} is {word}, and not: {before}");
            compared += 1;
        }
    }
    assert!(compared > 5, "only {compared} defaults were found");
}

#[test]
fn a_table_that_is_out_of_date_is_found_and_renewed() {
    let page = format!("before\n{BEGIN}tls -->\nold\n{END}\nafter\n");
    let (text, groups) = renewed(&page);
    assert_eq!(groups, ["tls"]);
    assert!(text.starts_with("before\n") && text.ends_with("\nafter\n") && !text.contains("old"));
    assert!(text.contains("| `tls.cert` | `NABU_TLS_CERT` | `--tls-cert FILE` |"), "{text}");
    assert_eq!(renewed(&text).0, text);
}
