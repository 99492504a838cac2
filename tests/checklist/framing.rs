//! B: message framing after start-up.

use rowarden::demo::client::message;
use rowarden::policy::reason::Reason;
use rowarden::postgres::frame::client_frame_within;
use rowarden::postgres::pump::End;

use crate::{MARKER, holds, lying, parse, query, run, talk, talk_in_pieces};

#[test]
fn b01_a_length_that_no_message_has_ends_the_connection() {
    for length in [0, 1, 2, 3, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff] {
        for kind in *b"QPBDECHSXF" {
            let seen = talk(&lying(kind, length, MARKER.as_bytes()));
            seen.ended_by(Reason::ProtoBadLength);
        }
    }
}

/// A driver whose length field wrapped: the bytes behind the short message are messages, and judged.
#[test]
fn b02_a_query_in_the_tail_of_a_message_is_judged_as_the_message_that_it_is() {
    let hidden = query("DELETE FROM {m}");
    for series in [
        [message::bind("", "", &[]), hidden.clone()].concat(),
        [parse("", "SELECT $1"), lying(b'B', 12, &[0; 8]), hidden.clone()].concat(),
        [message::sync(), hidden].concat(),
    ] {
        talk(&[series, message::sync()].concat()).nothing_went_up();
    }
}

#[test]
fn b03_an_announced_length_takes_no_memory_and_has_a_bound_of_the_policy() {
    talk(&lying(b'Q', 0x3fff_ffff, b"")).ended_by(Reason::ProtoBadLength);
    let announced = lying(b'Q', 70_000, b"S");
    assert_eq!(client_frame_within(&announced, 100_000), Ok(None));
    assert!(client_frame_within(&announced, 65_536).is_err(), "before the body has come");
}

#[test]
fn b04_a_type_that_no_client_sends_ends_the_connection() {
    for kind in [0, b'y', b'p', b'Z', b'R', b'1', b'v', 0xff] {
        talk(&message::frame(kind, MARKER.as_bytes())).ended_by(Reason::ProtoUnknownMessage);
    }
}

#[test]
fn b05_a_query_has_one_zero_byte_and_that_at_its_end() {
    let bodies = ["SELECT 1", "SELECT 1\0; DELETE FROM {m}\0", "SELECT '{m}", "\0\0"];
    for body in bodies {
        let seen = talk(&message::frame(b'Q', body.replace("{m}", MARKER).as_bytes()));
        seen.nothing_went_up();
        assert_eq!(seen.outline(), "EZI", "{body}");
        assert_eq!(seen.denials.len(), 1, "{body}");
    }
    assert_eq!(talk(&query("")).outline(), "IZI", "an empty one is no fault");
}

#[test]
fn b06_text_that_is_not_utf8_is_refused_before_anything_reads_it() {
    for bytes in [&b"\xff"[..], b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe4"] {
        let body = [b"SELECT '", bytes, b"', 'zqforbidden'\0"].concat();
        let seen = talk(&message::frame(b'Q', &body));
        seen.nothing_went_up();
        assert_eq!((seen.outline().as_str(), seen.denials), ("EZI", vec![Reason::SqlEncoding]));
    }
}

#[test]
fn b07_a_simple_query_inside_a_series_ends_the_connection() {
    let inside = [parse("", "SELECT 1"), query("SELECT '{m}'"), message::sync()].concat();
    talk(&inside).ended_by(Reason::ProtoOutOfOrder);
}

#[test]
fn b08_a_call_by_number_is_refused_whatever_the_number() {
    for oid in [0, 1598, 2077, 16_384, u32::MAX] {
        let call = message::function_call(oid, &[MARKER.as_bytes()]);
        let seen = talk(&[call, query("SELECT 1")].concat());
        seen.nothing_went_up();
        assert_eq!(seen.denials, [Reason::ProtoFastpath]);
        assert!(seen.outline().starts_with("EZI"), "the session goes on: {}", seen.outline());
        assert!(!holds(&seen.by_server, "F\0\0"));
    }
}

#[test]
fn b09_copy_data_that_nobody_asked_for_ends_the_connection() {
    let data = message::copy_data(MARKER.as_bytes());
    for stray in [data, message::copy_done(), message::copy_fail(MARKER)] {
        talk(&[stray, query("SELECT 1")].concat()).ended_by(Reason::ProtoOutOfOrder);
    }
}

#[test]
fn b10_two_statements_in_one_parse_are_one_error_and_neither_is_sent() {
    let seen = talk(&[run("SELECT '{m}'; SELECT 2"), message::sync()].concat());
    seen.nothing_went_up();
    assert_eq!((seen.outline().as_str(), seen.sqlstate().as_str()), ("EZI", "42601"));
}

#[test]
fn b11_a_bind_is_read_to_the_last_byte() {
    let ok = [0, 0, 0, 0, 0, 0, 0, 0];
    let bodies: [&[u8]; 6] = [
        // Lengths of a parameter: -7 and 2^31-16; then fewer values than announced.
        b"\0\0\0\0\0\x01\xff\xff\xff\xf9\0\0",
        b"\0\0\0\0\0\x01\x7f\xff\xff\xf0\0\0",
        b"\0\0\0\0\xff\xff\0\0\0\0",
        // A format that is neither text nor binary, two formats for one value, a byte too many.
        b"\0\0\0\x01\0\x02\0\0\0\0",
        b"\0\0\0\x02\0\0\0\0\0\x01\xff\xff\xff\xff\0\0",
        b"\0\0\0\0\0\0\0\0Q",
    ];
    for body in bodies {
        let bind = message::frame(b'B', body);
        let seen = talk(&[parse("", "SELECT 1"), bind.clone(), message::sync()].concat());
        assert!(seen.outline().contains("EZI"), "{body:?}");
        assert!(!holds_bytes(&seen.by_server, &bind), "{body:?}");
    }
    let good = message::frame(b'B', &ok);
    let seen = talk(&[parse("", "SELECT 1"), good, message::sync()].concat());
    assert_eq!(seen.outline(), "12ZI");
}

fn holds_bytes(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn b13_a_name_stands_for_what_was_judged_under_it_last() {
    // A name that is taken, closed and taken again; the unnamed statement replaced; SQL's own names.
    let execute = |name: &str| [message::bind("", name, &[]), message::execute("")].concat();
    let close = message::frame(b'C', b"Sa\0");
    let replaced = [
        parse("a", "SELECT 'one'"),
        close,
        parse("a", "SELECT 'two'"),
        execute("a"),
        message::sync(),
    ];
    assert_eq!(talk(&replaced.concat()).outline().matches('C').count(), 1);

    let denied = [parse("b", "DELETE FROM {m}"), message::sync(), execute("b"), message::sync()];
    let seen = talk(&denied.concat());
    seen.nothing_went_up();
    assert_eq!(seen.outline(), "EZIEZI", "the name of a refused statement stands for nothing");

    let by_sql = [query("PREPARE c AS DELETE FROM {m}"), query("EXECUTE c")].concat();
    let seen = talk(&by_sql);
    seen.nothing_went_up();
    assert_eq!(seen.outline(), "EZIEZI");

    let unnamed = [parse("", "SELECT 1"), message::sync(), parse("", "DELETE FROM {m}")].concat();
    let seen = talk(&[unnamed, message::sync(), execute(""), message::sync()].concat());
    seen.nothing_went_up();
    assert_eq!(seen.outline(), "1ZIEZIEZI", "a Parse that fails destroys the unnamed statement");
}

#[test]
fn b14_a_portal_ends_with_its_transaction_and_is_not_another_statement_s() {
    let begin = [parse("", "SELECT 'x'"), message::bind("p", "", &[]), message::execute("p")];
    let later = [message::execute("p"), message::sync()].concat();
    let across = [begin.concat(), message::sync(), later.clone()].concat();
    assert_eq!(talk(&across).sqlstate(), "34000", "outside of a transaction Sync ends it");

    let replaced = [begin.concat(), parse("", "DELETE FROM {m}"), message::sync(), later].concat();
    let seen = talk(&[query("BEGIN"), replaced, query("ROLLBACK")].concat());
    seen.nothing_went_up();
    assert_eq!(seen.denials, [Reason::SqlWriteStatement]);
}

#[test]
fn b15_after_a_refusal_in_a_long_pipeline_nothing_of_the_series_runs() {
    let half: Vec<u8> = (0..5_000).flat_map(|_| run("SELECT 'a'")).collect();
    let late: Vec<u8> = (0..5_000).flat_map(|_| run("SELECT '{m}'")).collect();
    let series =
        [half, run("DELETE FROM {m}"), late, message::sync(), query("SELECT 'b'")].concat();

    let seen = talk(&series);

    seen.nothing_went_up();
    let outline = seen.outline();
    assert_eq!((outline.matches('E').count(), outline.matches('Z').count()), (1, 2));
    assert_eq!(outline.matches('C').count(), 5_001, "all before it and the next query");
    assert_eq!(seen.denials, [Reason::SqlWriteStatement]);
}

#[test]
fn b16_a_write_between_reads_refuses_the_whole_string() {
    let seen = talk(&query("SELECT '{m}'; INSERT INTO t VALUES (1); SELECT '{m}'"));
    seen.nothing_went_up();
    assert_eq!((seen.outline().as_str(), seen.denials), ("EZI", vec![Reason::SqlWriteStatement]));
}

#[test]
fn b17_a_refusal_inside_a_transaction_fails_it_on_both_sides() {
    for refused in [query("DELETE FROM {m}"), [run("DELETE FROM {m}"), message::sync()].concat()] {
        let seen = talk(&[query("BEGIN"), refused, query("SELECT 1"), query("ROLLBACK")].concat());
        seen.nothing_went_up();
        let outline = seen.outline();
        assert!(outline.starts_with("CZTEZE") && outline.ends_with("EZECZI"), "{outline}");
        assert!(holds(&seen.by_server, "int4in"), "the gate's own failing statement: {outline}");
    }
}

#[test]
fn b18_nothing_depends_on_where_the_bytes_are_cut() {
    let script = [
        query("SELECT 'a'"),
        query("DELETE FROM {m}"),
        [run("SELECT 'b'"), run("DROP TABLE {m}"), message::sync()].concat(),
        query("BEGIN; SELECT 1; COMMIT"),
        query("SELECT nextval('{m}')").repeat(100),
    ]
    .concat();
    let whole = talk(&script);
    whole.nothing_went_up();
    for cut in [1, 2, 3, 5, 7, 64, 1_000] {
        let pieces = talk_in_pieces(&script, cut);
        assert_eq!(pieces, whole, "{cut}");
    }
}

#[test]
fn b19_nothing_goes_up_behind_a_goodbye() {
    let seen = talk(&[query("SELECT 1"), message::terminate(), query("SELECT '{m}'")].concat());
    seen.nothing_went_up();
    assert_eq!(seen.end, End::Terminated);
    assert!(
        seen.by_server.ends_with(&message::terminate()),
        "it is the last that the server hears"
    );
}
