#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "in a test a panic is the verdict"
)]

use super::*;
use session_core::codec::{Decode as _, Encode as _};
use session_core::ids::GroupId;
use session_crypto::Secret;
use session_e2ee::Event;

use crate::state::StateDir;

const GROUP: GroupId = GroupId::from_bytes([7; 32]);

fn account(n: u8) -> AccountId {
    AccountId::from_bytes([n; 32])
}

fn member(n: u8) -> MemberDevice {
    MemberDevice {
        account: account(n),
        device: DeviceId::from_bytes([n; 16]),
    }
}

fn name(of: u8, sequence: u64) -> MessageName {
    MessageName {
        device: member(of).device,
        sequence,
    }
}

fn body(sequence: u64, content: Content) -> Body {
    Body {
        sequence,
        sent_at_ms: 5,
        content,
    }
}

fn text(words: &str) -> Content {
    Content::Text(words.to_owned())
}

fn own(sequence: u64, content: Content) -> Record {
    Record::Said {
        message: name(1, sequence),
        body: body(sequence, content),
        at_ms: 100,
        timer_s: 0,
    }
}

fn event(number: u64, kind: EventKind) -> Record {
    Record::Event {
        event: Event {
            number,
            group: GROUP,
            kind,
        },
        at_ms: 100 + number,
        timer_s: 0,
    }
}

fn heard(number: u64, from: u8, sequence: u64, content: Content) -> Record {
    event(
        number,
        EventKind::Message(Box::new(Message {
            from: member(from),
            epoch: 1,
            place: place(number),
            authenticity: Authenticity::FromMember,
            body: body(sequence, content),
        })),
    )
}

fn place(position: u64) -> LogPlace {
    LogPlace {
        position,
        time_ms: 1_000 + position,
    }
}

fn accepted(number: u64, sequence: u64) -> Record {
    let message = name(1, sequence);
    let place = place(number);
    event(number, EventKind::Accepted { message, place })
}

fn words(transcript: &Transcript) -> Vec<String> {
    let words = transcript.messages().map(|said| match &said.words {
        Words::Text(text) => text.clone(),
        Words::File(..) | Words::Unknown(_) => "?".to_owned(),
    });
    words.collect()
}

fn folded(records: &[Record]) -> Transcript {
    let mut transcript = Transcript::new(member(1));
    for record in records {
        transcript.apply(record);
    }
    transcript
}

#[test]
fn ones_own_words_wait_behind_the_log_and_take_their_place_in_it() {
    let mut transcript = folded(&[
        heard(1, 2, 0, text("first of the other")),
        own(0, text("mine one")),
        own(1, text("mine two")),
        heard(2, 2, 1, text("second of the other")),
    ]);
    let waiting = [
        "first of the other",
        "second of the other",
        "mine one",
        "mine two",
    ];
    assert_eq!(words(&transcript), waiting);
    let others = BTreeSet::from([account(2), account(3)]);
    let tick = |transcript: &Transcript, sequence| {
        let said = transcript.said(&name(1, sequence)).unwrap();
        transcript.tick(said, &others)
    };
    assert_eq!(tick(&transcript, 0), Tick::Waiting);
    transcript.apply(&accepted(3, 0));
    transcript.apply(&heard(4, 3, 0, text("of a third")));
    let placed = [
        "first of the other",
        "second of the other",
        "mine one",
        "of a third",
        "mine two",
    ];
    assert_eq!(words(&transcript), placed);
    assert_eq!(tick(&transcript, 0), Tick::Accepted);
    let both = vec![name(1, 0)];
    transcript.apply(&heard(5, 2, 2, Content::Read(both.clone())));
    assert_eq!(
        tick(&transcript, 0),
        Tick::Accepted,
        "one of two is not everybody"
    );
    transcript.apply(&heard(6, 3, 1, Content::Delivered(both.clone())));
    assert_eq!(tick(&transcript, 0), Tick::Delivered);
    transcript.apply(&heard(7, 3, 2, Content::Read(both)));
    assert_eq!(tick(&transcript, 0), Tick::Read);
    transcript.apply(&event(8, EventKind::NotSent(name(1, 1))));
    assert_eq!(tick(&transcript, 1), Tick::Failed);
    assert_eq!(transcript.next_own(), 2);
}

#[test]
fn only_its_sender_changes_a_message_and_what_comes_early_waits_for_it() {
    let edit = |of, words: &str| Content::Edit {
        of,
        text: words.to_owned(),
    };
    let mut transcript = folded(&[
        // The edit was sealed again sooner than its message.
        heard(1, 2, 1, edit(name(2, 0), "changed")),
        heard(2, 2, 0, text("as it was")),
        heard(3, 3, 0, edit(name(2, 0), "by somebody else")),
        heard(4, 3, 1, Content::Delete { of: name(2, 0) }),
    ]);
    assert_eq!(words(&transcript), ["changed"]);
    let said = transcript.said(&name(2, 0)).unwrap();
    assert!(said.edited && said.gone.is_none());
    let react = |to, emoji: &str| Content::Reaction {
        to,
        emoji: emoji.to_owned(),
    };
    transcript.apply(&heard(5, 3, 2, react(name(2, 0), "👍")));
    transcript.apply(&own(0, react(name(2, 0), "🎉")));
    transcript.apply(&heard(6, 3, 3, react(name(2, 0), "")));
    let said = transcript.said(&name(2, 0)).unwrap();
    assert_eq!(
        said.reactions,
        BTreeMap::from([(account(1), "🎉".to_owned())])
    );
    transcript.apply(&heard(7, 2, 2, Content::Delete { of: name(2, 0) }));
    assert_eq!(
        transcript.said(&name(2, 0)).unwrap().gone,
        Some(Gone::Deleted)
    );
    assert_eq!(words(&transcript), [""]);
}

#[test]
fn proofs_and_forgeries_change_what_was_shown() {
    let mut transcript = folded(&[heard(1, 2, 0, text("true")), heard(2, 2, 1, text("false"))]);
    transcript.apply(&event(3, EventKind::Verified(vec![name(2, 0)])));
    transcript.apply(&event(4, EventKind::Forged(name(2, 1))));
    let said = |sequence| transcript.said(&name(2, sequence)).unwrap();
    assert_eq!(said(0).authenticity, Authenticity::Verified);
    assert_eq!(said(1).gone, Some(Gone::Forged));
    assert_eq!(transcript.last_event(), 4);
}

#[test]
fn what_was_read_or_told_is_not_unread_and_not_told_again() {
    let mut transcript = folded(&[
        heard(1, 2, 0, text("one")),
        heard(2, 2, 1, text("two")),
        own(0, text("mine")),
    ]);
    assert_eq!(transcript.unread(), 2);
    assert_eq!(transcript.untold(Told::Read, 9), [name(2, 0), name(2, 1)]);
    transcript.apply(&own(1, Content::Delivered(vec![name(2, 0), name(2, 1)])));
    assert_eq!(transcript.untold(Told::Delivered, 9), []);
    transcript.apply(&own(2, Content::Read(vec![name(2, 0)])));
    assert_eq!(transcript.untold(Told::Read, 9), [name(2, 1)]);
    assert_eq!(transcript.unread(), 1);
    transcript.apply(&Record::Looked);
    assert_eq!(transcript.unread(), 0);
}

#[test]
fn who_wants_to_leave_is_known_until_gone() {
    let leave = Content::Leave {
        whole_account: true,
    };
    let mut transcript = folded(&[heard(1, 2, 0, leave)]);
    assert_eq!(transcript.leaving(), BTreeMap::from([(account(2), None)]));
    transcript.apply(&event(
        2,
        EventKind::Removed {
            device: member(2),
            last_of_account: true,
            by: member(1),
        },
    ));
    assert!(transcript.leaving().is_empty());
}

#[test]
fn records_read_back_and_hostile_ones_are_refused() {
    let records = [
        own(3, text("hallo")),
        heard(9, 2, 1, Content::Read(vec![name(1, 3)])),
        Record::Looked,
        Record::Gone {
            message: name(1, 3),
            why: Gone::Disappeared,
        },
    ];
    for record in records {
        let bytes = record.to_bytes();
        assert_eq!(Record::from_bytes(&bytes).unwrap(), record);
        for cut in 0..bytes.len() {
            assert!(Record::from_bytes(&bytes[..cut]).is_err());
        }
    }
    assert!(Record::from_bytes(&[2, 3]).is_err());
}

fn open(dir: &std::path::Path) -> file::TranscriptFile {
    let dir = StateDir::open(dir).unwrap();
    file::TranscriptFile::open(dir, GROUP, Secret::new([3; 32]), member(1)).unwrap()
}

/// Everything that lies in a directory's transcripts, opened.
fn lies_there(dir: &std::path::Path, words: &str) -> bool {
    let key = Secret::new([3; 32]);
    let mut found = false;
    for file in std::fs::read_dir(dir.join("chats")).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        for line in text.lines() {
            assert!(!line.contains(words));
            let plain = crate::sealed_lines::open(&key, GROUP.as_bytes(), line);
            let plain = plain.unwrap_or_default();
            found |= plain.windows(words.len()).any(|at| at == words.as_bytes());
        }
    }
    found
}

#[test]
fn what_is_taken_back_or_over_leaves_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let mut file = open(directory.path());
    let disappears = Record::Said {
        message: name(1, 5),
        body: body(5, text("soon gone")),
        at_ms: 1_000,
        timer_s: 10,
    };
    let edit = Content::Edit {
        of: name(2, 0),
        text: "new words".to_owned(),
    };
    let records = [
        heard(1, 2, 0, text("old words")),
        heard(2, 2, 1, edit),
        heard(3, 2, 2, text("they stay")),
        disappears,
    ];
    file.write_down(&records).unwrap();
    for words in ["old words", "new words", "they stay", "soon gone"] {
        assert!(lies_there(directory.path(), words), "{words}");
    }
    file.write_down(&[heard(4, 2, 3, Content::Delete { of: name(2, 0) })])
        .unwrap();
    assert!(
        !lies_there(directory.path(), "old words") && !lies_there(directory.path(), "new words")
    );
    assert_eq!(file.transcript().next_over_ms(), Some(11_000));
    assert!(file.expire(10_999).unwrap().is_empty());
    assert_eq!(file.expire(11_000).unwrap(), [name(1, 5)]);
    assert!(!lies_there(directory.path(), "soon gone"));
    assert!(lies_there(directory.path(), "they stay"));
    let lines = file.transcript().lines().to_vec();
    let again = open(directory.path());
    assert_eq!(again.transcript().lines(), lines);
    assert_eq!(
        again.transcript().said(&name(1, 5)).unwrap().gone,
        Some(Gone::Disappeared)
    );
    assert_eq!(again.transcript().last_event(), 4);
}

#[test]
fn a_crash_between_the_word_that_something_goes_and_its_going_is_made_good() {
    let directory = tempfile::tempdir().unwrap();
    let mut file = open(directory.path());
    file.write_down(&[heard(1, 2, 0, text("to be deleted"))])
        .unwrap();
    // As `write_down` leaves the file before it writes it anew.
    let delete = heard(2, 2, 1, Content::Delete { of: name(2, 0) });
    let mut line = Vec::new();
    let key = Secret::new([3; 32]);
    crate::sealed_lines::seal(&key, GROUP.as_bytes(), &delete.to_bytes(), &mut line).unwrap();
    let path = std::fs::read_dir(directory.path().join("chats"))
        .unwrap()
        .next()
        .unwrap();
    crate::sealed_lines::append(&path.unwrap().path(), &line).unwrap();
    assert!(lies_there(directory.path(), "to be deleted"));
    let again = open(directory.path());
    assert_eq!(
        again.transcript().said(&name(2, 0)).unwrap().gone,
        Some(Gone::Deleted)
    );
    assert!(!lies_there(directory.path(), "to be deleted"));
}

/// The same, slow and obvious: everything is looked up in the list of all records each time.
struct Model(Vec<Record>);

impl Model {
    fn said(&self) -> Vec<(MessageName, AccountId, Option<LogPlace>, Content)> {
        let mut all = Vec::new();
        for record in &self.0 {
            let (name, account, place, content) = match record {
                Record::Said { message, body, .. } => {
                    let accepted = self.0.iter().find_map(|other| match other {
                        Record::Event { event, .. } => match event.kind {
                            EventKind::Accepted { message: of, place } if of == *message => {
                                Some(place)
                            }
                            _ => None,
                        },
                        _ => None,
                    });
                    (*message, account(1), accepted, &body.content)
                }
                Record::Event { event, .. } => match &event.kind {
                    EventKind::Message(message) => (
                        message.name(),
                        message.from.account,
                        Some(message.place),
                        &message.body.content,
                    ),
                    _ => continue,
                },
                _ => continue,
            };
            all.push((name, account, place, content.clone()));
        }
        all
    }

    /// Words in the order of the log, and behind them what waits.
    fn words(&self) -> Vec<String> {
        let said = self.said();
        let mut texts: Vec<_> = said
            .iter()
            .filter_map(|(name, by, place, content)| match content {
                Content::Text(text) => Some((
                    place.map_or(u64::MAX, |p| p.position),
                    *name,
                    *by,
                    text.clone(),
                )),
                _ => None,
            })
            .collect();
        texts.sort_by_key(|(position, ..)| *position);
        let words = texts.into_iter().map(|(_, name, by, mut text)| {
            // What was said of it counts in the order in which it was written down.
            for (_, other, _, content) in &said {
                match content {
                    Content::Edit { of, text: new } if *of == name && *other == by => {
                        text.clone_from(new)
                    }
                    Content::Delete { of } if *of == name && *other == by => return String::new(),
                    _ => {}
                }
            }
            text
        });
        words.collect()
    }

    fn read_by(&self, name: MessageName) -> BTreeSet<AccountId> {
        let said = self.said().into_iter();
        let read = said.filter(|(_, by, _, content)| {
            *by != account(1) && matches!(content, Content::Read(names) if names.contains(&name))
        });
        read.map(|(_, by, ..)| by).collect()
    }
}

#[test]
fn a_transcript_is_what_the_slow_model_says_under_random_schedules() {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let first: u64 = seed.unwrap_or_else(|| {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).unwrap();
        u64::from_be_bytes(bytes)
    });
    println!("SEED={first}");
    for round in 0..200 {
        let mut state = first.wrapping_add(round) | 1;
        let mut random = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let mut transcript = Transcript::new(member(1));
        let mut model = Model(Vec::new());
        let (mut number, mut sequences) = (0, [0_u64; 4]);
        let mut waiting: Vec<u64> = Vec::new();
        let mut names: Vec<MessageName> = Vec::new();
        for _ in 0..60 {
            let by = 1 + random(3) as u8;
            let sequence = sequences[usize::from(by)];
            let to = match names.len() as u64 {
                // Nothing was said yet: of somebody who will say it.
                0 => name(2, 0),
                n => names[random(n) as usize],
            };
            let content = match random(6) {
                0 => Content::Edit {
                    of: to,
                    text: format!("edit {number} {sequence}"),
                },
                1 => Content::Delete { of: to },
                2 => Content::Read(vec![to]),
                _ => text(&format!("text {by} {sequence}")),
            };
            let record = if random(4) == 0 && !waiting.is_empty() {
                number += 1;
                accepted(number, waiting.remove(0))
            } else {
                sequences[usize::from(by)] += 1;
                if matches!(content, Content::Text(_)) {
                    names.push(name(by, sequence));
                }
                if by == 1 {
                    waiting.push(sequence);
                    own(sequence, content)
                } else {
                    number += 1;
                    heard(number, by, sequence, content)
                }
            };
            transcript.apply(&record);
            model.0.push(record);
            assert_eq!(
                words(&transcript),
                model.words(),
                "SEED={first} round {round}"
            );
            for name in &names {
                let said = transcript.said(name).unwrap();
                if said.from.account == account(1) {
                    assert_eq!(
                        said.read,
                        model.read_by(*name),
                        "SEED={first} round {round}"
                    );
                }
            }
        }
    }
}
