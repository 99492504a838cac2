//! The proof: one value over everything in a database that an attack could change.

use crate::demo::client::reply::Reply;
use crate::demo::client::{Client, ClientError};

/// One row for each relation that holds rows of somebody's: a query whose only value is a digest.
const DIGESTS: &str = r"
SELECT CASE relkind
       WHEN 'S' THEN format('SELECT last_value || is_called::text FROM %s', oid::regclass)
       ELSE format('SELECT md5(coalesce(string_agg(t::text, chr(10) ORDER BY t::text), %L)) FROM %s AS t', '', oid::regclass)
       END
FROM pg_class
WHERE relkind IN ('r', 'm', 'S') AND relpersistence <> 't' AND relnamespace::regnamespace::text !~ '^pg_(catalog|toast)|^information_schema$'
ORDER BY oid";

/// What stands beside the rows: what there is (temporary things too), who owns and may do what,
/// where it is stored (a TRUNCATE or VACUUM FULL moves it), what is set, and what is pending.
const CATALOGUE: &str = r"
SELECT md5(concat_ws(' ',
    (SELECT count(*) FROM pg_class),
    (SELECT string_agg(concat_ws(' ', oid, relname, relowner, relfilenode, relacl), chr(10) ORDER BY oid) FROM pg_class WHERE oid >= 16384),
    (SELECT count(*) FROM pg_attribute WHERE NOT attisdropped),
    (SELECT string_agg(concat_ws(' ', oid, proname, prosrc, proacl), chr(10) ORDER BY oid) FROM pg_proc WHERE oid >= 16384),
    (SELECT string_agg(concat_ws(' ', nspname, nspacl), chr(10) ORDER BY nspname) FROM pg_namespace WHERE nspname !~ '^pg_'),
    (SELECT count(*) FROM pg_type), (SELECT count(*) FROM pg_trigger), (SELECT count(*) FROM pg_rewrite), (SELECT count(*) FROM pg_constraint),
    (SELECT count(*) FROM pg_description), (SELECT count(*) FROM pg_extension), (SELECT count(*) FROM pg_statistic),
    (SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database),
    (SELECT md5(string_agg(a::text, chr(10) ORDER BY oid)) FROM pg_authid AS a),
    (SELECT string_agg(concat_ws(' ', setdatabase, setrole, setconfig), chr(10) ORDER BY setdatabase, setrole) FROM pg_db_role_setting),
    (SELECT string_agg(concat_ws(' ', name, setting), ' ' ORDER BY seqno) FROM pg_file_settings),
    (SELECT count(*) FROM pg_prepared_xacts),
    (SELECT count(*) FROM pg_replication_slots),
    (SELECT count(*) FROM pg_largeobject_metadata),
    (SELECT md5(string_agg(concat_ws(' ', loid, pageno, data), chr(10) ORDER BY loid, pageno)) FROM pg_largeobject)))";

/// What the fingerprint is when someone's lock keeps others from reading.
const LOCKED: &str = "locked: others cannot read";

/// A value that is the same as before if and only if nothing has changed.
///
/// # Errors
/// When the connection breaks or is not a superuser's: a proof with holes would be none.
pub fn fingerprint(examiner: &mut Client) -> Result<String, ClientError> {
    const LOCK_NOT_AVAILABLE: &str = "55P03";
    match measure(examiner) {
        Err(ClientError::Refused(error)) if error.sqlstate == LOCK_NOT_AVAILABLE => {
            Ok(LOCKED.to_owned())
        }
        outcome => outcome,
    }
}

fn measure(examiner: &mut Client) -> Result<String, ClientError> {
    examiner.query("SET lock_timeout = '1s'")?.into_result()?;
    let catalogue = examiner.query(CATALOGUE)?.into_result()?;
    let digests = examiner.query(DIGESTS)?.into_result()?;
    let queries: Vec<&str> = values(&digests).collect();
    let rows = examiner.query(&queries.join(";"))?.into_result()?;
    let parts: Vec<&str> = values(&catalogue).chain(values(&rows)).collect();
    let sum = examiner.extended("SELECT md5($1)", &[Some(&parts.join(" "))])?.into_result()?;
    sum.value().map(str::to_owned).ok_or(ClientError::Protocol)
}

/// The first value of every row of every result.
fn values(reply: &Reply) -> impl Iterator<Item = &str> {
    let rows = reply.results.iter().flat_map(|result| &result.rows);
    rows.filter_map(|row| row.first()?.as_deref())
}
