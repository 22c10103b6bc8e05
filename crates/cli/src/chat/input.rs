//! The line that is being typed.

use unicode_width::UnicodeWidthChar as _;

/// Longest text that is typed at once, in characters: a frame has 63,487 bytes.
const CHARS_MAX: usize = 15_000;
/// Lines that can be had back.
const REMEMBERED: usize = 100;

/// Text, and where the cursor stands in it.
#[derive(Debug, Clone, Default)]
pub(super) struct Input {
    chars: Vec<char>,
    cursor: usize,
    sent: Vec<String>,
    /// Which sent line is shown, counted from the last; 0: none.
    back: usize,
}

impl Input {
    pub(super) fn text(&self) -> String {
        self.chars.iter().collect()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.chars.is_empty()
    }

    /// Takes what was typed, and remembers it.
    pub(super) fn take(&mut self) -> String {
        let text = self.text();
        self.clear();
        if !text.trim().is_empty() && self.sent.last() != Some(&text) {
            self.sent.push(text.clone());
            if self.sent.len() > REMEMBERED {
                self.sent.remove(0);
            }
        }
        text
    }

    pub(super) fn clear(&mut self) {
        self.chars.clear();
        (self.cursor, self.back) = (0, 0);
    }

    pub(super) fn insert(&mut self, char: char) {
        let control = char.is_control() && char != '\n';
        if self.chars.len() < CHARS_MAX && !control {
            self.chars.insert(self.cursor, char);
            self.cursor += 1;
        }
    }

    /// What was pasted: its lines stay, tabs become spaces.
    pub(super) fn paste(&mut self, text: &str) {
        for char in text.chars() {
            match char {
                '\r' => {}
                '\t' => self.insert(' '),
                char => self.insert(char),
            }
        }
    }

    pub(super) fn backspace(&mut self) {
        if self.cursor > 0 {
            self.cursor -= 1;
            self.chars.remove(self.cursor);
        }
    }

    pub(super) fn delete(&mut self) {
        if self.cursor < self.chars.len() {
            self.chars.remove(self.cursor);
        }
    }

    /// Takes the word before the cursor away.
    pub(super) fn delete_word(&mut self) {
        let before = |this: &Self| {
            this.cursor
                .checked_sub(1)
                .and_then(|at| this.chars.get(at).copied())
        };
        while before(self).is_some_and(char::is_whitespace) {
            self.backspace();
        }
        while before(self).is_some_and(|char| !char.is_whitespace()) {
            self.backspace();
        }
    }

    pub(super) fn delete_to_start(&mut self) {
        self.chars.drain(..self.cursor);
        self.cursor = 0;
    }

    pub(super) fn left(&mut self) {
        self.cursor = self.cursor.saturating_sub(1);
    }

    pub(super) fn right(&mut self) {
        self.cursor = (self.cursor + 1).min(self.chars.len());
    }

    pub(super) const fn start(&mut self) {
        self.cursor = 0;
    }

    pub(super) const fn end(&mut self) {
        self.cursor = self.chars.len();
    }

    /// Shows an earlier line, or a later one.
    pub(super) fn recall(&mut self, earlier: bool) {
        let back = if earlier {
            (self.back + 1).min(self.sent.len())
        } else {
            self.back.saturating_sub(1)
        };
        let text = self
            .sent
            .len()
            .checked_sub(back)
            .and_then(|at| self.sent.get(at));
        self.chars = text.map(|text| text.chars().collect()).unwrap_or_default();
        (self.back, self.cursor) = (back, self.chars.len());
    }

    /// Completes the word before the cursor to the one that all of these begin with. Answers them
    /// where there are several.
    pub(super) fn complete(
        &mut self,
        candidates: impl Fn(&str, bool) -> Vec<String>,
    ) -> Vec<String> {
        let start = self
            .chars
            .iter()
            .take(self.cursor)
            .rposition(|char| char.is_whitespace())
            .map_or(0, |at| at + 1);
        let word: String = self.chars.iter().take(self.cursor).skip(start).collect();
        let found = candidates(&word, start == 0);
        let Some(first) = found.first() else {
            return found;
        };
        let mut shared: Vec<char> = first.chars().collect();
        for other in &found {
            let same = shared
                .iter()
                .zip(other.chars())
                .take_while(|(a, b)| **a == *b)
                .count();
            shared.truncate(same);
        }
        for char in shared.iter().skip(word.chars().count()) {
            self.insert(*char);
        }
        if found.len() == 1 {
            self.insert(' ');
            return Vec::new();
        }
        found
    }

    /// The text as rows of this width, and where the cursor is: row and column.
    pub(super) fn rows(&self, width: usize) -> (Vec<String>, (usize, usize)) {
        let width = width.max(2);
        let (mut rows, mut row, mut used) = (Vec::new(), String::new(), 0);
        let mut at = (0, 0);
        for (index, char) in self.chars.iter().enumerate() {
            let wide = char.width().unwrap_or(0);
            if used + wide > width {
                rows.push(core::mem::take(&mut row));
                used = 0;
            }
            if index == self.cursor {
                at = (rows.len(), used);
            }
            if *char == '\n' {
                rows.push(core::mem::take(&mut row));
                used = 0;
            } else {
                row.push(*char);
                used += wide;
            }
        }
        if self.cursor == self.chars.len() {
            if used == width {
                rows.push(core::mem::take(&mut row));
                used = 0;
            }
            at = (rows.len(), used);
        }
        rows.push(row);
        (rows, at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(text: &str) -> Input {
        let mut input = Input::default();
        input.paste(text);
        input
    }

    #[test]
    fn text_is_edited_where_the_cursor_stands() {
        let mut input = typed("hello wörld");
        input.delete_word();
        assert_eq!(input.text(), "hello ");
        input.paste("there\r\nyou\t!");
        assert_eq!(input.text(), "hello there\nyou !");
        input.start();
        input.right();
        input.delete();
        input.insert('a');
        assert_eq!(input.text(), "hallo there\nyou !");
        input.delete_to_start();
        assert_eq!(input.text(), "llo there\nyou !");
        input.insert('\u{1b}');
        assert_eq!(input.text(), "llo there\nyou !", "no control characters");
    }

    #[test]
    fn sent_lines_come_back_in_order() {
        let mut input = typed("one");
        assert_eq!(input.take(), "one");
        input.paste("two");
        input.take();
        for (earlier, text) in [
            (true, "two"),
            (true, "one"),
            (true, "one"),
            (false, "two"),
            (false, ""),
        ] {
            input.recall(earlier);
            assert_eq!(input.text(), text);
        }
    }

    #[test]
    fn words_are_completed_as_far_as_they_agree() {
        let people = |word: &str, _: bool| {
            let all = ["carol", "carla", "bob"]
                .iter()
                .filter(|name| name.starts_with(word));
            all.map(|name| (*name).to_owned()).collect::<Vec<_>>()
        };
        let mut input = typed("/add c");
        assert_eq!(input.complete(people).len(), 2);
        assert_eq!(input.text(), "/add car");
        input.paste("o");
        assert!(input.complete(people).is_empty());
        assert_eq!(input.text(), "/add carol ");
    }

    #[test]
    fn rows_follow_the_width_of_characters() {
        let mut input = typed("abc日本語");
        assert_eq!(input.rows(5).0, ["abc日", "本語"]);
        assert_eq!(input.rows(5).1, (1, 4));
        input.start();
        assert_eq!(input.rows(5).1, (0, 0));
        assert_eq!(
            typed("ab\ncd").rows(9),
            (vec!["ab".to_owned(), "cd".to_owned()], (1, 2))
        );
        assert_eq!(
            typed("abcde").rows(5).1,
            (1, 0),
            "the cursor has a place of its own"
        );
    }
}
