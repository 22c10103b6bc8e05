//! What a person types in a chat: words, or a line that begins with `/`.

use std::path::PathBuf;

/// One line, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    Say(String),
    Reply(usize, String),
    React(usize, String),
    Edit(usize, String),
    Delete(usize),
    Add(Vec<String>),
    Remove(Vec<String>),
    Leave,
    Members,
    Devices,
    Safety,
    Verify(String),
    Timer(u32),
    Mute(bool),
    Name(String),
    File(PathBuf),
    Save(usize, Option<PathBuf>),
    Export(PathBuf),
    Rotate,
    Outbox,
    Help,
    Quit,
}

/// A command, its arguments, and what it does.
const TABLE: &[(&str, &str, &str)] = &[
    ("/add", "WHO…", "brings people into this conversation"),
    (
        "/remove",
        "WHO…",
        "removes people; what comes after it they cannot read",
    ),
    ("/leave", "", "asks to be removed"),
    ("/members", "", "who is here, and what they may do"),
    ("/devices", "", "their devices, and when each was heard of"),
    ("/safety", "", "the digits that everybody here compares"),
    (
        "/verify",
        "WHO",
        "you compared them with WHO, by another way",
    ),
    (
        "/timer",
        "TIME|off",
        "messages disappear after 30s, 5m, 1h, 2d",
    ),
    ("/mute", "[off]", "no bell for this conversation"),
    ("/name", "NAME", "names the conversation, for everybody"),
    ("/reply", "N TEXT", "answers message N"),
    (
        "/react",
        "N [EMOJI]",
        "puts an emoji to message N; none takes it back",
    ),
    ("/edit", "N TEXT", "new words for your message N"),
    ("/delete", "N", "takes your message N back"),
    ("/file", "PATH", "sends a file of at most 100 MiB"),
    ("/save", "N [DIR]", "saves the file of message N"),
    (
        "/export",
        "PATH",
        "writes this conversation to a file: JSON lines where it ends in .jsonl",
    ),
    ("/rotate", "", "new keys for this device, now"),
    ("/outbox", "", "what waits to be sent, and why"),
    ("/help", "", "this list"),
    ("/quit", "", "ends the chat; so do Ctrl-C and Ctrl-D"),
];

/// Longest time after which messages disappear: four weeks.
const TIMER_MAX_S: u64 = 28 * 86_400;

impl Command {
    /// Understands a line. None for an empty one.
    pub(crate) fn parse(line: &str) -> Result<Option<Self>, String> {
        let line = line.trim();
        if line.is_empty() {
            return Ok(None);
        }
        // Two of them say a line that begins with one.
        if let Some(words) = line.strip_prefix("//") {
            return Ok(Some(Self::Say(format!("/{words}"))));
        }
        if !line.starts_with('/') {
            return Ok(Some(Self::Say(line.to_owned())));
        }
        let (word, rest) = split(line);
        let names = || {
            rest.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let usage = || usage_of(word);
        let command = match word {
            "/add" | "/remove" if rest.is_empty() => return Err(usage()),
            "/add" => Self::Add(names()),
            "/remove" => Self::Remove(names()),
            "/leave" => Self::Leave,
            "/members" => Self::Members,
            "/devices" => Self::Devices,
            "/safety" => Self::Safety,
            "/verify" if rest.is_empty() => return Err(usage()),
            "/verify" => Self::Verify(rest.to_owned()),
            "/timer" => Self::Timer(parse_timer(rest).ok_or_else(usage)?),
            "/mute" => match rest {
                "" | "on" => Self::Mute(true),
                "off" => Self::Mute(false),
                _ => return Err(usage()),
            },
            "/name" if rest.is_empty() => return Err(usage()),
            "/name" => Self::Name(rest.to_owned()),
            "/reply" => numbered(rest, true)
                .map(|(n, text)| Self::Reply(n, text))
                .ok_or_else(usage)?,
            "/react" => numbered(rest, false)
                .map(|(n, text)| Self::React(n, text))
                .ok_or_else(usage)?,
            "/edit" => numbered(rest, true)
                .map(|(n, text)| Self::Edit(n, text))
                .ok_or_else(usage)?,
            "/delete" => match numbered(rest, false) {
                Some((n, more)) if more.is_empty() => Self::Delete(n),
                Some(_) | None => return Err(usage()),
            },
            "/file" if rest.is_empty() => return Err(usage()),
            "/file" => Self::File(home_of(rest)),
            "/save" => {
                let (n, dir) = numbered(rest, false).ok_or_else(usage)?;
                Self::Save(n, (!dir.is_empty()).then(|| home_of(&dir)))
            }
            "/export" if rest.is_empty() => return Err(usage()),
            "/export" => Self::Export(home_of(rest)),
            "/rotate" => Self::Rotate,
            "/outbox" => Self::Outbox,
            "/help" | "/?" => Self::Help,
            "/quit" | "/q" | "/exit" => Self::Quit,
            other => {
                return Err(format!(
                    "{other} is no command: /help lists them, //{} says it",
                    other.trim_start_matches('/')
                ));
            }
        };
        Ok(Some(command))
    }

    /// Commands that begin so, for completion.
    pub(crate) fn beginning_with(word: &str) -> Vec<&'static str> {
        let names = TABLE.iter().map(|(name, ..)| *name);
        names.filter(|name| name.starts_with(word)).collect()
    }

    /// The list of commands, a line each.
    pub(crate) fn help() -> Vec<String> {
        let line = |(name, arguments, what): &(&str, &str, &str)| {
            format!("{:<19} {what}", format!("{name} {arguments}"))
        };
        TABLE.iter().map(line).collect()
    }
}

fn usage_of(word: &str) -> String {
    let found = TABLE.iter().find(|(name, ..)| *name == word);
    match found {
        Some((name, arguments, what)) => format!("{name} {arguments}: {what}"),
        None => "/help lists the commands".to_owned(),
    }
}

fn split(line: &str) -> (&str, &str) {
    match line.split_once(char::is_whitespace) {
        Some((word, rest)) => (word, rest.trim()),
        None => (line, ""),
    }
}

/// `N rest`; with `more` the rest must not be empty.
fn numbered(text: &str, more: bool) -> Option<(usize, String)> {
    let (number, rest) = split(text);
    let number = number.trim_start_matches('#').parse().ok()?;
    (!more || !rest.is_empty()).then(|| (number, rest.to_owned()))
}

/// `30s`, `5m`, `1h`, `2d`, `off`: in seconds.
pub(crate) fn parse_timer(text: &str) -> Option<u32> {
    if text == "off" || text == "0" {
        return Some(0);
    }
    let unit = text.chars().last()?;
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    let seconds = number.checked_mul(match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    })?;
    if (1..=TIMER_MAX_S).contains(&seconds) {
        u32::try_from(seconds).ok()
    } else {
        None
    }
}

/// `1 h`, `5 min`, `never`.
pub(crate) fn timer_text(seconds: u32) -> String {
    match seconds {
        0 => "never".to_owned(),
        s if s % 86_400 == 0 => format!("{} d", s / 86_400),
        s if s % 3_600 == 0 => format!("{} h", s / 3_600),
        s if s % 60 == 0 => format!("{} min", s / 60),
        s => format!("{s} s"),
    }
}

/// A path in which `~/` is the person's home.
fn home_of(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => PathBuf::from(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Option<Command> {
        Command::parse(line).ok().flatten()
    }

    #[test]
    fn words_are_said_and_commands_are_understood() {
        let said = |text: &str| Some(Command::Say(text.to_owned()));
        assert_eq!(parse("  hello there "), said("hello there"));
        assert_eq!(parse("//etc/hosts"), said("/etc/hosts"));
        assert_eq!(parse("   "), None);
        assert_eq!(
            parse("/reply #3 yes please"),
            Some(Command::Reply(3, "yes please".to_owned()))
        );
        assert_eq!(parse("/react 3"), Some(Command::React(3, String::new())));
        assert_eq!(parse("/timer 5m"), Some(Command::Timer(300)));
        assert_eq!(parse("/timer off"), Some(Command::Timer(0)));
        assert_eq!(
            parse("/add bob carol"),
            Some(Command::Add(vec!["bob".to_owned(), "carol".to_owned()]))
        );
        assert_eq!(
            parse("/save 4 /tmp/x y"),
            Some(Command::Save(4, Some(PathBuf::from("/tmp/x y"))))
        );
        assert_eq!(parse("/mute off"), Some(Command::Mute(false)));
    }

    #[test]
    fn what_is_not_understood_says_what_would_be() {
        for (line, part) in [
            ("/reply x y", "/reply N TEXT"),
            ("/reply 3", "/reply N TEXT"),
            ("/timer 5", "/timer TIME|off"),
            ("/timer 99d", "/timer TIME|off"),
            ("/timer ä", "/timer TIME|off"),
            ("/timer 99999999999999999999d", "/timer TIME|off"),
            ("/add", "/add WHO"),
            ("/delete 3 4", "/delete N"),
            ("/dance", "/dance is no command"),
        ] {
            let problem = Command::parse(line).unwrap_err();
            assert!(problem.contains(part), "{line}: {problem}");
        }
    }

    #[test]
    fn every_command_of_the_list_is_one() {
        for (name, arguments, _) in TABLE {
            let known = match Command::parse(name) {
                Ok(_) => true,
                Err(problem) => problem.starts_with(&format!("{name} {arguments}")),
            };
            assert!(known, "{name}");
            assert_eq!(Command::beginning_with(name).first(), Some(name));
        }
        assert_eq!(timer_text(5_400), "90 min");
    }
}
