#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test a panic is the verdict"
)]

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};
use session_client::e2ee::{DeviceId, MemberDevice, MessageName};
use session_core::ids::{AccountId, GroupId};

use super::*;
use crate::chat::engine::Tell;
use crate::chat::screen::Meant;

fn message(number: usize, own: bool, text: &str) -> Message {
    let device = DeviceId::from_bytes([1 + u8::from(own); 16]);
    Message {
        number,
        name: MessageName {
            device,
            sequence: number as u64,
        },
        group: GroupId::from_bytes([1; 32]),
        who: if own { "you" } else { "bob" }.to_owned(),
        from: MemberDevice {
            account: AccountId::from_bytes([9; 32]),
            device,
        },
        own,
        time_ms: 1_790_000_000_000,
        text: text.to_owned(),
        quote: None,
        file: false,
        edited: false,
        gone: None,
        reactions: Vec::new(),
        authenticity: Authenticity::Verified,
        tick: Tick::Read,
    }
}

fn screen(lines: Vec<Shown>) -> Screen {
    Screen {
        view: View {
            title: "crew".to_owned(),
            people: 3,
            devices: 4,
            lines,
            ..View::default()
        },
        ..Screen::default()
    }
}

/// The rows as text.
fn drawn(screen: &Screen, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, screen)).unwrap();
    let buffer = terminal.backend().buffer();
    let row = |y: u16| {
        let cells = (0..width).filter_map(|x| buffer.cell((x, y)));
        let text: String = cells.map(|cell| cell.symbol()).collect();
        text.trim_end().to_owned()
    };
    (0..height).map(row).collect()
}

fn key(code: KeyCode) -> Event {
    Event::Key(KeyEvent::new(code, KeyModifiers::NONE))
}

fn control(code: KeyCode) -> Event {
    Event::Key(KeyEvent::new(code, KeyModifiers::CONTROL))
}

#[test]
fn a_conversation_shows_who_said_what_and_how_far_it_has_come() {
    let mut waits = message(3, true, "and this waits");
    waits.tick = Tick::Waiting;
    let mut unproved = message(2, false, "who am I");
    unproved.authenticity = Authenticity::FromMember;
    unproved.reactions = vec![("👍".to_owned(), 2)];
    let mut answer = message(4, false, "yes");
    answer.quote = Some("and this waits".to_owned());
    answer.edited = true;
    let lines = [message(1, true, "hello"), unproved, waits, answer];
    let mut screen = screen(lines.into_iter().map(Shown::Message).collect());
    screen.view.waiting = 1;
    screen.view.typing = vec!["carol".to_owned()];
    screen.input.paste("what I wr");
    let rows = drawn(&screen, 90, 12);
    let all = rows.join("\n");
    let shows = |text: &str| assert!(all.contains(text), "{text}:\n{all}");
    for text in [
        "crew",
        "3 people, 4 devices",
        "not compared",
        "you hello ✓✓ #1",
        "? bob who am I 👍",
        "you and this waits … #3",
        "✔ bob ↳ and this waits",
        "yes (edited) #4",
        "1 waiting to be sent · carol is writing",
    ] {
        shows(text);
    }
    assert!(rows[11].starts_with("> what I wr"), "{all}");
}

#[test]
fn what_arrives_does_not_touch_what_is_typed() {
    let mut screen = screen(vec![Shown::Message(message(1, false, "one"))]);
    for char in "half a tho".chars() {
        screen.take(key(KeyCode::Char(char)));
    }
    let mut view = screen.view.clone();
    view.lines.push(Shown::Message(message(2, false, "two")));
    screen.update(view);
    screen.tell(Tell::Lines(vec!["an answer".to_owned()]));
    screen.tell(Tell::Loud("the keys of bob have CHANGED".to_owned()));
    let rows = drawn(&screen, 60, 12);
    assert!(rows[1].starts_with("! the keys of bob"), "{rows:?}");
    assert!(rows[11].starts_with("> half a tho"), "{rows:?}");
    for char in "ught".chars() {
        screen.take(key(KeyCode::Char(char)));
    }
    let line = Meant::Line("half a thought".to_owned());
    assert_eq!(screen.take(key(KeyCode::Enter)), line);
    // An empty line has read the warning.
    assert_eq!(screen.take(key(KeyCode::Enter)), Meant::Nothing);
    assert!(screen.loud.is_empty());
    assert_eq!(screen.take(control(KeyCode::Char('c'))), Meant::Quit);
}

#[test]
fn long_conversations_are_read_back_and_return_to_the_end() {
    let lines = (1..=100).map(|n| Shown::Message(message(n, false, &format!("line {n}"))));
    let mut screen = screen(lines.collect());
    let shows = |screen: &Screen, n: usize| {
        let rows = drawn(screen, 60, 14);
        rows.iter().any(|row| row.contains(&format!("line {n} ")))
    };
    assert!(shows(&screen, 100) && !shows(&screen, 80));
    for _ in 0..2 {
        screen.take(key(KeyCode::PageUp));
    }
    assert!(shows(&screen, 75) && !shows(&screen, 100));
    screen.take(control(KeyCode::Home));
    assert!(shows(&screen, 1));
    screen.take(key(KeyCode::Esc));
    assert!(shows(&screen, 100));
}

const TEXTS: [&str; 8] = [
    "",
    " ",
    "\n\n",
    "a very long word: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "日本語のとても長い文章です",
    "e\u{301}\u{301}\u{301}",
    "🧑\u{200d}🤝\u{200d}🧑 family",
    "tab\tand\ttab",
];

#[test]
fn no_width_and_no_text_breaks_it() {
    for width in [1, 2, 3, 8, 9, 20, 200] {
        for height in [1, 2, 5, 40] {
            let lines = TEXTS.iter().enumerate();
            let lines = lines.map(|(n, text)| Shown::Message(message(n, n % 2 == 0, text)));
            let mut screen = screen(lines.collect());
            screen.input.paste("日本語 and more\nthan one line of it");
            screen.tell(Tell::Loud("something loud and rather long".to_owned()));
            drawn(&screen, width, height);
        }
    }
}

#[test]
fn wrapped_text_keeps_every_character_and_fits() {
    for text in TEXTS {
        for width in [2, 5, 30] {
            let rows = wrap(text, width);
            for row in &rows {
                let chars: usize = row
                    .chars()
                    .filter_map(unicode_width::UnicodeWidthChar::width)
                    .sum();
                assert!(chars <= width, "{row:?} is wider than {width}");
            }
            let bare = |text: &str| text.replace(['\n', ' ', '\t'], "");
            assert_eq!(bare(&rows.concat()), bare(text), "nothing is left out");
        }
    }
    let rows = wrap_behind("one two three four", 12, 6, 2);
    assert_eq!(rows, ["one ", "two three ", "four"]);
}
