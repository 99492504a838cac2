//! The judge: what it lets through, it lets through again in the pieces in which it is sent.

use rowarden::policy::sql::fold::{Folded, Pattern};
use rowarden::policy::sql::{JudgedSql, Judgement, Piece, judge_sql};
use rowarden::policy::verdict::{SqlFault, Verdict};

use super::policy;

/// Runs of digits in a text that are replaced; each costs a few verdicts.
const MOST_NUMBERS: usize = 6;

/// Judges `data`.
///
/// # Panics
/// When the verdict does not fit itself.
pub fn check(data: &[u8]) {
    let judged = judge_sql(&policy(), data);
    match &judged.verdict {
        Verdict::Allow(cleared) => {
            let judgement = cleared.request();
            assert_eq!(judgement.text.as_bytes(), data);
            check_places(judgement);
            for index in 0..judgement.pieces.len() {
                check_piece(judgement, index);
            }
            check_other_numbers(&judged, &judgement.text);
        }
        Verdict::Deny(denial) => assert!(!denial.operation.is_empty()),
        Verdict::Fault(fault) => check_position(fault, data),
    }
}

/// The texts that the gate may send for a judgement: the whole for a single statement, the pieces of
/// a string, and what was written in place of either.
pub(super) fn sendable(judgement: &Judgement) -> Vec<&str> {
    (0..judgement.pieces.len()).map(|index| sent_for(judgement, index)).collect()
}

fn sent_for(judgement: &Judgement, index: usize) -> &str {
    let piece = &judgement.pieces[index];
    match &piece.rewritten {
        Some(rewritten) => rewritten,
        None if judgement.pieces.len() == 1 => &judgement.text,
        None => &judgement.text[piece.start..piece.end],
    }
}

/// Whether a text is let through as one statement or none.
pub(super) fn is_read(text: &str) -> bool {
    let Verdict::Allow(cleared) = judge_sql(&policy(), text.as_bytes()).verdict else {
        return one_read(text).is_some();
    };
    cleared.request().pieces.len() <= 1
}

/// The statement of a text that is let through and holds no more than one. What pools clean up with is
/// let through only in a string of its like, so it is judged in one.
pub(super) fn one_read(text: &str) -> Option<Piece> {
    let pieces = |text: &str| match judge_sql(&policy(), text.as_bytes()).verdict {
        Verdict::Allow(cleared) => Some(cleared.request().pieces.clone()),
        Verdict::Deny(_) | Verdict::Fault(_) => None,
    };
    let (mut read, count) = match pieces(text) {
        Some(pieces) => (pieces, 1),
        None => (pieces(&format!("{text}\n;{text}"))?, 2),
    };
    if read.len() == count { read.pop() } else { None }
}

/// Pieces stand in order inside the text, and their places are right in bytes and in characters.
fn check_places(judgement: &Judgement) {
    let mut before = 0;
    for piece in &judgement.pieces {
        assert!(before <= piece.start && piece.start <= piece.end, "{piece:?}");
        let front = judgement.text.get(..piece.start).expect("a start between characters");
        assert!(judgement.text.get(piece.start..piece.end).is_some(), "{piece:?}");
        assert_eq!(piece.chars_before, front.chars().count());
        before = piece.end;
    }
}

fn check_piece(judgement: &Judgement, index: usize) {
    let piece = &judgement.pieces[index];
    let text = sent_for(judgement, index);
    let alone = one_read(text).unwrap_or_else(|| panic!("not let through alone: {text:?}"));
    assert_eq!(alone.kind, piece.kind, "{text:?}");
    assert_eq!(alone.generic_plan_parameters, piece.generic_plan_parameters);
    assert_eq!(alone.rewritten, None, "made read-only twice: {text:?}");
}

/// The verdict on a text with other numbers is the one that is remembered for this.
fn check_other_numbers(judged: &JudgedSql, text: &str) {
    let Some(pattern) = Pattern::of(judged) else { return };
    for other in other_numbers(text) {
        let Some(folded) = Folded::of(other.as_bytes()) else { continue };
        let Some(remembered) = pattern.for_text(&folded) else { continue };
        let anew = judge_sql(&policy(), other.as_bytes());
        let (Verdict::Allow(remembered), Verdict::Allow(anew)) =
            (remembered.verdict, &anew.verdict)
        else {
            panic!("{text:?} is let through, and {other:?} is not: {anew:?}");
        };
        assert_eq!(remembered.request().text, anew.request().text);
        assert_eq!(remembered.request().pieces, anew.request().pieces);
        assert_eq!(remembered.request().digest, anew.request().digest);
    }
}

/// The text with another number in place of each run of digits, one at a time.
fn other_numbers(text: &str) -> impl Iterator<Item = String> {
    const NUMBERS: [&str; 5] = ["0", "1", "54", "00", "123456789"];
    let is_digit = |at: &usize| text.as_bytes().get(*at).is_some_and(u8::is_ascii_digit);
    let starts = (0..text.len()).filter(move |at| {
        is_digit(at) && !at.checked_sub(1).is_some_and(|before| is_digit(&before))
    });
    starts.take(MOST_NUMBERS).flat_map(move |start| {
        let length = text[start..].bytes().take_while(u8::is_ascii_digit).count();
        let (front, behind) = (&text[..start], &text[start + length..]);
        NUMBERS.map(|number| format!("{front}{number}{behind}"))
    })
}

fn check_position(fault: &SqlFault, data: &[u8]) {
    let text = str::from_utf8(data).expect("a fault is about a text");
    if let Some(position) = fault.position {
        assert!((1..=text.chars().count() + 1).contains(&position), "{fault:?}");
    }
}
