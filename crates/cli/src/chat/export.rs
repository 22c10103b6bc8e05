//! A conversation as a file, or as what a command prints: a line each.

use serde_json::Value;

use super::view::{Shown, day};

/// Messages and what happened, with their days.
pub(crate) fn text(lines: &[Shown]) -> String {
    let mut text = String::new();
    for line in lines {
        match line {
            Shown::Message(message) => {
                text.push_str(&day(message.time_ms));
                text.push(' ');
                text.push_str(&message.as_text());
            }
            Shown::Notice(notice) => {
                text.push_str(&day(notice.time_ms));
                text.push_str(&format!(" -- {}", notice.text));
            }
        }
        text.push('\n');
    }
    text
}

/// Messages alone, for programs.
pub(crate) fn messages(lines: &[Shown]) -> Vec<Value> {
    let messages = lines.iter().filter_map(|line| match line {
        Shown::Message(message) => Some(message.as_json()),
        Shown::Notice(_) => None,
    });
    messages.collect()
}
