//! The flags of `start` that the table of settings makes, and what `--help` says about them.

use std::ffi::OsString;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, ValueHint, value_parser};

use crate::config::{DefaultValue, Flag, FlagForm, Flags, SETTINGS, Setting};

/// What the flags of settings say, unchecked: their values are read by the table, so that the same
/// message names a wrong one wherever it stands.
pub struct SettingFlags(pub Flags);

fn with_flags() -> impl Iterator<Item = (&'static Setting, Flag)> {
    SETTINGS.iter().filter_map(|setting| setting.flag.map(|flag| (setting, flag)))
}

/// As clap knows a flag: its name without the hyphens.
fn id(flag: Flag) -> &'static str {
    flag.name.trim_start_matches('-')
}

fn argument(setting: &Setting, flag: Flag) -> Arg {
    let argument = Arg::new(id(flag))
        .long(id(flag))
        .value_name(flag.value_name)
        .value_parser(value_parser!(OsString))
        .help(help(setting))
        .value_hint(if setting.kind.is_path() { ValueHint::AnyPath } else { ValueHint::Unknown });
    match setting.kind.flag_form() {
        FlagForm::Value => argument,
        FlagForm::SignedValue => argument.allow_hyphen_values(true),
        FlagForm::Switch => argument.num_args(0..=1).require_equals(true).default_missing_value("true"),
        FlagForm::Repeated => argument.action(ArgAction::Append),
    }
}

/// What the setting is, its bounds, the variable beside the flag, and the default.
fn help(setting: &Setting) -> String {
    let mut help = setting.help.to_owned();
    if !setting.kind.explains_itself() {
        help.push_str(&format!(" ({})", setting.kind.bounds()));
    }
    if let Some(variable) = setting.variable {
        help.push_str(&format!(" [env: {variable}]"));
    }
    let (DefaultValue::Is(default) | DefaultValue::Described(default)) = setting.default;
    help.push_str(&format!(" [default: {default}]"));
    // What is code in Markdown is plain text in a terminal.
    help.replace('`', "")
}

impl Args for SettingFlags {
    fn augment_args(command: Command) -> Command {
        command.args(with_flags().map(|(setting, flag)| argument(setting, flag)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Flags::default();
        for (_, flag) in with_flags() {
            for word in matches.get_many::<OsString>(id(flag)).into_iter().flatten() {
                flags.give(flag.name, word);
            }
        }
        Ok(Self(flags))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Flags, clap::Error> {
        let matches = SettingFlags::augment_args(Command::new("start")).try_get_matches_from(words)?;
        SettingFlags::from_arg_matches(&matches).map(|flags| flags.0)
    }

    #[test]
    fn every_flag_of_the_table_is_taken_as_it_is_written() {
        for (setting, flag) in with_flags() {
            let joined = format!("{}=-word", flag.name);
            assert_eq!(parse(&["start", &joined]).expect("taken").words(flag.name), ["-word"], "{joined}");
            let apart = parse(&["start", flag.name, "-1"]).map(|flags| flags.words(flag.name).to_vec()).ok();
            let expected = (setting.kind.flag_form() == FlagForm::SignedValue).then(|| vec!["-1".into()]);
            assert_eq!(apart, expected, "{} -1", flag.name);
            let alone = parse(&["start", flag.name]).map(|flags| flags.words(flag.name).to_vec()).ok();
            let expected = (setting.kind.flag_form() == FlagForm::Switch).then(|| vec!["true".into()]);
            assert_eq!(alone, expected, "{}", flag.name);
            let twice = parse(&["start", &joined, &joined]);
            assert_eq!(twice.is_ok(), setting.kind.flag_form() == FlagForm::Repeated, "{} twice", flag.name);
        }
        assert!(parse(&["start"]).expect("taken").words("--data").is_empty());
    }

    #[test]
    fn help_names_bounds_variable_and_default() {
        let setting = with_flags().find(|(_, flag)| flag.name == "--cores").expect("there").0;
        assert_eq!(
            help(setting),
            "Cores to use, with one thread on each (1..1024) [env: NABU_CORES] [default: all that the process may use]"
        );
    }
}
