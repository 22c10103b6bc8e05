//! Drawing: rows from what is known, as many as there is room for.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Position};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use session_client::Tick;
use session_client::e2ee::Authenticity;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::Screen;
use crate::chat::engine::timer_mark;
use crate::chat::view::{Message, Notice, Shown, Trusted, View, clock, day, times};
use crate::out::counted;

/// Rows of what is typed, at most.
const INPUT_ROWS: usize = 6;
/// `12:34 ` and the mark.
const INDENT: usize = 8;

const DIM: Style = Style::new().fg(Color::DarkGray);
const ALARM: Style = Style::new().fg(Color::White).bg(Color::Red);

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, screen: &Screen) {
    let area = frame.area();
    let width = usize::from(area.width);
    let (typed, (row, column)) = screen.input.rows(width.saturating_sub(2));
    let skipped = (row + 1).saturating_sub(INPUT_ROWS);
    let typed: Vec<String> = typed.into_iter().skip(skipped).take(INPUT_ROWS).collect();
    let alarms: Vec<String> = screen
        .loud
        .iter()
        .flat_map(|text| wrap(&format!("! {text}"), width))
        .take(usize::from(area.height) / 3)
        .collect();
    let rows = |n: usize| Constraint::Length(u16::try_from(n).unwrap_or(u16::MAX));
    let areas = Layout::vertical([
        rows(1),
        rows(alarms.len()),
        Constraint::Min(1),
        rows(1),
        rows(typed.len()),
    ]);
    let [head, alarm, said, status, input] = areas.areas(area);
    frame.render_widget(Paragraph::new(header(&screen.view, width)), head);
    let alarms: Vec<Line<'_>> = alarms
        .into_iter()
        .map(|text| Line::styled(text, ALARM))
        .collect();
    frame.render_widget(Paragraph::new(alarms).style(ALARM), alarm);
    let (lines, above) = visible(screen, width, usize::from(said.height));
    frame.render_widget(Paragraph::new(lines), said);
    frame.render_widget(Paragraph::new(status_line(screen, above)), status);
    let typed: Vec<Line<'_>> = typed
        .into_iter()
        .enumerate()
        .map(|(at, text)| {
            let first = at == 0 && skipped == 0;
            Line::from(vec![
                Span::styled(if first { "> " } else { "  " }, DIM),
                Span::raw(text),
            ])
        })
        .collect();
    frame.render_widget(Paragraph::new(typed), input);
    let x = input
        .x
        .saturating_add(u16::try_from(column + 2).unwrap_or(u16::MAX));
    let y = input
        .y
        .saturating_add(u16::try_from(row - skipped).unwrap_or(u16::MAX));
    frame.set_cursor_position(Position::new(x.min(area.right().saturating_sub(1)), y));
}

fn header(view: &View, width: usize) -> Line<'static> {
    let base = Style::new().add_modifier(Modifier::REVERSED);
    let (mark, style) = match view.standing {
        Trusted::Verified => (" ✔ verified", base.fg(Color::Green)),
        Trusted::Changed => (" ! CHANGED, see /safety", base.fg(Color::Red)),
        Trusted::Unknown => (" not compared yet, see /safety", base),
    };
    let people = match (view.people, view.devices) {
        // Of one that is over nobody is known any more.
        (0, _) => String::new(),
        (1, devices) => format!(" · nobody else, {}", counted(devices as u64, "device")),
        (people, devices) => format!(" · {people} people, {devices} devices"),
    };
    let people = format!(
        "{people}{}{}",
        timer_mark(view.timer_s),
        if view.muted { " · muted" } else { "" }
    );
    let title = format!(" {}", view.title);
    let used = title.width() + mark.width() + people.width();
    let rest = " ".repeat(width.saturating_sub(used));
    Line::from(vec![
        Span::styled(title, base.add_modifier(Modifier::BOLD)),
        Span::styled(mark, style),
        Span::styled(people, base),
        Span::styled(rest, base),
    ])
}

fn status_line(screen: &Screen, above: usize) -> Line<'static> {
    let view = &screen.view;
    let mut parts: Vec<Span<'static>> = Vec::new();
    let mut part = |text: String, style: Style| {
        if !parts.is_empty() {
            parts.push(Span::styled(" · ", DIM));
        }
        parts.push(Span::styled(text, style));
    };
    if screen.up > 0 {
        part(
            format!("reading back, {above} rows above, Esc goes to the end"),
            DIM,
        );
    }
    if let Some(ended) = view.ended {
        part(ended.to_owned(), ALARM);
    }
    if view.lent {
        part(
            "another command has this home".to_owned(),
            Style::new().fg(Color::Yellow),
        );
    }
    if view.waiting > 0 {
        part(
            format!("{} waiting to be sent", view.waiting),
            Style::new().fg(Color::Yellow),
        );
    }
    match view.typing.as_slice() {
        [] => {}
        [one] => part(format!("{one} is writing"), DIM),
        several => part(format!("{} are writing", several.join(", ")), DIM),
    }
    // Last: it is long, and a narrow screen cuts it off.
    if let Some(away) = &view.away {
        part(away.clone(), Style::new().fg(Color::Yellow));
    }
    if parts.is_empty() {
        parts.push(Span::styled("/help", DIM));
    }
    Line::from(parts)
}

/// The rows that there is room for, and how many are above them.
fn visible(screen: &Screen, width: usize, height: usize) -> (Vec<Line<'static>>, usize) {
    let mut rows: Vec<Line<'static>> = Vec::new();
    let mut last_day = String::new();
    for (index, line) in screen.view.lines.iter().enumerate() {
        notes_behind(screen, index, width, &mut rows);
        let time_ms = match line {
            Shown::Message(message) => message.time_ms,
            Shown::Notice(notice) => notice.time_ms,
        };
        let today = day(time_ms);
        if today != last_day {
            rows.push(Line::styled(format!("── {today} ──"), DIM));
            last_day = today;
        }
        match line {
            Shown::Message(message) => message_rows(message, width, &mut rows),
            Shown::Notice(notice) => notice_rows(notice, width, &mut rows),
        }
    }
    notes_behind(screen, screen.view.lines.len(), width, &mut rows);
    let most = rows.len().saturating_sub(height);
    let up = screen.up.min(most);
    let above = most - up;
    let shown = rows.into_iter().skip(above).take(height).collect();
    (shown, above)
}

fn notes_behind(screen: &Screen, index: usize, width: usize, rows: &mut Vec<Line<'static>>) {
    let behind = screen.notes.iter().filter(|(behind, _)| *behind == index);
    for (_, text) in behind {
        for row in wrap(text, width.saturating_sub(2)) {
            rows.push(Line::styled(
                format!("  {row}"),
                Style::new().fg(Color::Cyan),
            ));
        }
    }
}

fn notice_rows(notice: &Notice, width: usize, rows: &mut Vec<Line<'static>>) {
    let style = if notice.loud {
        Style::new().fg(Color::Red).add_modifier(Modifier::BOLD)
    } else {
        DIM
    };
    let text = format!("{} · {}", clock(notice.time_ms), notice.text);
    for (at, row) in wrap(&text, width.saturating_sub(INDENT))
        .into_iter()
        .enumerate()
    {
        let indent = if at == 0 { 0 } else { INDENT };
        rows.push(Line::styled(format!("{}{row}", " ".repeat(indent)), style));
    }
}

fn message_rows(message: &Message, width: usize, rows: &mut Vec<Line<'static>>) {
    let mut lead = vec![
        Span::styled(format!("{} ", clock(message.time_ms)), DIM),
        proof_mark(message),
        Span::styled(
            format!("{} ", message.who),
            Style::new()
                .fg(colour_of(message))
                .add_modifier(Modifier::BOLD),
        ),
    ];
    let used: usize = lead.iter().map(|span| span.content.width()).sum();
    let mut text = String::new();
    if let Some(quote) = &message.quote {
        text.push_str(&format!("↳ {quote}\n"));
    }
    text.push_str(&message.text);
    let tail = tail_of(message);
    let tail_width: usize = tail.iter().map(|span| span.content.width()).sum();
    let style = if message.gone.is_some() {
        DIM.add_modifier(Modifier::ITALIC)
    } else {
        Style::new()
    };
    let mut lines = wrap_behind(&text, width, used, INDENT)
        .into_iter()
        .peekable();
    let quoted = message.quote.is_some();
    let mut first = true;
    while let Some(line) = lines.next() {
        let style = if first && quoted { DIM } else { style };
        let mut spans = if first {
            core::mem::take(&mut lead)
        } else {
            vec![Span::raw(" ".repeat(INDENT))]
        };
        let before: usize = spans.iter().map(|span| span.content.width()).sum();
        let fits = before + line.width() + tail_width <= width;
        spans.push(Span::styled(line, style));
        if lines.peek().is_none() && fits {
            spans.extend(tail.clone());
            rows.push(Line::from(spans));
            return;
        }
        rows.push(Line::from(spans));
        first = false;
    }
    let mut spans = vec![Span::raw(" ".repeat(INDENT))];
    spans.extend(tail);
    rows.push(Line::from(spans));
}

/// `✔` where the sender's signature is there, `?` until then; nothing between two people.
fn proof_mark(message: &Message) -> Span<'static> {
    match message.authenticity {
        _ if message.own => Span::raw("  "),
        Authenticity::Verified => Span::styled("✔ ", Style::new().fg(Color::Green)),
        Authenticity::FromMember => Span::styled("? ", Style::new().fg(Color::Yellow)),
        Authenticity::Deniable => Span::raw("  "),
    }
}

fn tail_of(message: &Message) -> Vec<Span<'static>> {
    let mut tail = Vec::new();
    if message.edited {
        tail.push(Span::styled(" (edited)", DIM));
    }
    for (emoji, count) in &message.reactions {
        tail.push(Span::raw(format!(" {emoji}{}", times(*count))));
    }
    if message.own {
        let style = match message.tick {
            Tick::Read => Style::new()
                .fg(Color::LightBlue)
                .add_modifier(Modifier::BOLD),
            Tick::Failed => Style::new().fg(Color::Red),
            Tick::Waiting | Tick::Accepted | Tick::Delivered => DIM,
        };
        tail.push(Span::styled(format!(" {}", message.tick_mark()), style));
    }
    tail.push(Span::styled(format!(" #{}", message.number), DIM));
    tail
}

/// A colour for each account, the same every time.
fn colour_of(message: &Message) -> Color {
    const COLOURS: [Color; 6] = [
        Color::Magenta,
        Color::Yellow,
        Color::Green,
        Color::LightRed,
        Color::LightBlue,
        Color::LightMagenta,
    ];
    if message.own {
        return Color::Cyan;
    }
    let sum: usize = message
        .from
        .account
        .as_bytes()
        .iter()
        .map(|byte| usize::from(*byte))
        .sum();
    COLOURS
        .get(sum % COLOURS.len())
        .copied()
        .unwrap_or(Color::Magenta)
}

/// Text as rows of a width.
fn wrap(text: &str, width: usize) -> Vec<String> {
    wrap_behind(text, width, 0, 0)
}

/// Text as rows: the first behind `first` columns, the others behind `later`. Words that fit a row are
/// not cut.
fn wrap_behind(text: &str, width: usize, first: usize, later: usize) -> Vec<String> {
    let mut rows = Vec::new();
    let mut begins = first;
    for line in text.split('\n') {
        let (mut row, mut used) = (String::new(), begins);
        for word in line.split_inclusive(' ') {
            let bare = word.trim_end_matches(' ').width();
            let is_new = row.is_empty();
            if used + bare > width && (!is_new || begins > later) {
                rows.push(core::mem::take(&mut row));
                (begins, used) = (later, later);
            }
            for char in word.chars() {
                let char = if char == '\t' { ' ' } else { char };
                let wide = char.width().unwrap_or(0);
                if used + wide > width.max(later + 2) {
                    rows.push(core::mem::take(&mut row));
                    (begins, used) = (later, later);
                    if char == ' ' {
                        continue;
                    }
                }
                row.push(char);
                used += wide;
            }
        }
        rows.push(row);
        begins = later;
    }
    rows
}

#[cfg(test)]
mod tests;
